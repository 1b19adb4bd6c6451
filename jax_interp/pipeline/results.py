"""What an interpolation gives, whole or pair by pair."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from jax_interp.media.pairs import join_pairs

PairProgress = Callable[[int, int, int], None]
"""Called with (number of the batch's first pair, network calls done, network calls in all)."""


@dataclass(frozen=True)
class InterpolatedPair:
    """One pair's result."""

    index: int
    frames: UInt8[np.ndarray, "F Y X 3"]
    """All frames of the pair, from its first to its last."""
    latents: Float[np.ndarray, "T H W C"]


@dataclass(frozen=True)
class Interpolation:
    """The result of `Interpolator.interpolate`."""

    frames: UInt8[np.ndarray, "F Y X 3"]
    """All pairs joined; the frame that two pairs share appears once, as the earlier pair's last one."""
    latents: Float[np.ndarray, "pairs T H W C"]
    """The sampler's output before decoding."""

    @classmethod
    def of(cls, pairs: Iterable[InterpolatedPair]) -> "Interpolation":
        """All of `pairs`, which come in their order, as one."""
        ordered = list(pairs)
        joined = np.concatenate(list(join_pairs(pair.frames for pair in ordered)))
        return cls(joined, np.stack([pair.latents for pair in ordered]))
