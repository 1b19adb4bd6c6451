"""The verdict of a guardrail about a prompt or about frames."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """A verdict: whether something may pass, and why. A guardrail that cannot tell blocks.

    ```python
    Verdict.allow()
    Verdict.block("frame 3 shows violence", category="Violence")
    ```
    """

    allowed: bool
    reason: str
    """The reason for people: what was found, or why nothing could be decided."""
    category: str | None = None
    """The guardrail's category of what was found; None if allowed, or blocked because something went wrong."""

    @classmethod
    def allow(cls, reason: str = "nothing was found") -> "Verdict":
        """Return the verdict that it may pass."""
        return cls(allowed=True, reason=reason)

    @classmethod
    def block(cls, reason: str, category: str | None = None) -> "Verdict":
        """Return the verdict that it may not pass."""
        return cls(allowed=False, reason=reason, category=category)
