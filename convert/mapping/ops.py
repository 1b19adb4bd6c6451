"""Named layout changes between PyTorch's and Flax's order of axes. Each moves values and never changes one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Op:
    """A change of layout and its inverse; `inverse(forward(x)) == x` bit for bit.

    `Op("transpose", lambda x: x.T, lambda x: x.T)` is an example.
    """

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


keep = Op("keep", lambda x: x, lambda x: x)

transpose = Op("transpose", lambda x: x.T, lambda x: x.T)
"""Linear weight: [out, in] <-> [in, out]."""

spatial_conv = Op(
    "spatial_conv", lambda x: x.squeeze(2).transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)[:, :, None]
)
"""3D convolution over height and width alone: [out, in, 1, h, w] <-> [h, w, in, out]."""

temporal_conv = Op(
    "temporal_conv", lambda x: x.squeeze((3, 4)).transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0)[..., None, None]
)
"""3D convolution over time alone: [out, in, t, 1, 1] <-> [t, in, out]."""

pointwise_conv = Op("pointwise_conv", lambda x: x.squeeze((2, 3, 4)).T, lambda x: x.T[:, :, None, None, None])
"""1×1×1 convolution: [out, in, 1, 1, 1] <-> [in, out]."""

picture_conv = Op("picture_conv", lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
"""2D convolution: [out, in, h, w] <-> [h, w, in, out]."""

picture_patches = Op(
    "picture_patches",
    lambda x: x.reshape(x.shape[0], -1).T,
    lambda x: x.T.reshape(x.shape[1], 3, math.isqrt(x.shape[0] // 3), -1),
)
"""Convolution of RGB over whole square patches: [out, 3, p, p] <-> [3·p·p, out]."""


def halved_pairs(head_width: int) -> Op:
    """Return the op of a query or key weight whose rotary pairs are neighbours, as in Mistral's own files.

    [out, in] <-> [in, out], and of every head component 2i <-> i and 2i + 1 <-> i + `head_width`/2. Queries and keys
    are reordered alike, so no attention score changes.
    """
    half = head_width // 2

    def forward(x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, half, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape).T

    def inverse(x: np.ndarray) -> np.ndarray:
        return x.T.reshape(-1, 2, half, x.shape[0]).swapaxes(1, 2).reshape(x.T.shape)

    return Op(f"halved_pairs({head_width})", forward, inverse)


channel_vector = Op("channel_vector", lambda x: x.reshape(-1), lambda x: x)
"""One value per channel, whatever axes of size one surround it: -> [channels]."""

channel_table = Op("channel_table", lambda x: _two_axes(x.squeeze()), lambda x: x)
"""Values per channel and frame, flat (then of 16 channels) or among axes of size one: -> [channels, frames]."""


def _two_axes(x: np.ndarray) -> np.ndarray:
    return x if x.ndim == 2 else x.reshape(16, -1)
