"""The choice of a language model's next token. Imports no JAX."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The choice of the next token: greedy at `temperature` 0, else by sampling."""

    temperature: float = 0.0
    top_p: float = 1.0
    """The probability of the likeliest tokens together from which is drawn, in (0, 1]."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf") or not 0 < self.top_p <= 1:
            raise ValueError(f"temperature must be finite and at least 0, and top_p in (0, 1]; got {self}")


GREEDY = Sampling()
