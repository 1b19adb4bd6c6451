"""The results of an interpolation, of a whole clip or pair by pair."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from jax_interp.media.pairs import join_pairs

PairProgress = Callable[[int, int, int], None]
"""A callable that is called with (number of the batch's first pair, network calls done, network calls in all). For
example, `lambda pair, done, total: print(f"pair {pair}: {done} of {total}")`."""


@dataclass(frozen=True)
class InterpolatedPair:
    """The result of one pair."""

    index: int
    frames: UInt8[np.ndarray, "F Y X 3"]
    """All frames of the pair, from its first to its last, RGB; or the only one."""
    latents: Float[np.ndarray, "T H W C"]
    """The sampler's output before decoding; empty where there was a single frame."""


@dataclass(frozen=True)
class Interpolation:
    """The result of `Interpolator.interpolate`."""

    frames: UInt8[np.ndarray, "F Y X 3"]
    """The frames of all pairs joined, RGB; the frame that two pairs share appears once, as the earlier pair's last."""
    latents: Float[np.ndarray, "pairs T H W C"]
    """The sampler's output before decoding, one row a pair."""

    @classmethod
    def of(cls, pairs: Iterable[InterpolatedPair]) -> "Interpolation":
        """Join `pairs`, which come in their order, into one result."""
        ordered = list(pairs)
        joined = np.concatenate(list(join_pairs(pair.frames for pair in ordered)))
        return cls(joined, np.stack([pair.latents for pair in ordered]))


@dataclass(frozen=True)
class GeneratedVideo:
    """The result of `Video2World.generate`."""

    frames: UInt8[np.ndarray, "F Y X 3"]
    """All frames, the given ones among them as the model decodes them, RGB."""
    latents: Float[np.ndarray, "T H W C"]
    """The sampler's output before decoding."""
