"""How a language model's next token is chosen. Imports no JAX."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen: the likeliest one at `temperature` 0, else a draw."""

    temperature: float = 0.0
    top_p: float = 1.0
    """Probability of the likeliest tokens among which is drawn, in (0, 1]."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf") or not 0 < self.top_p <= 1:
            raise ValueError(f"temperature must be finite and at least 0, and top_p in (0, 1]; got {self}")


GREEDY = Sampling()
