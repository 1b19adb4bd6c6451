"""Pictures fitted into the network's size and padded by reflection, and cropped back."""

import numpy as np

from jax_interp.media.resize import resize_levels
from jax_interp.media.shape import Shape
from jax_interp.media.source import Picture, RgbFrames


def fit(picture: Picture, shape: Shape) -> Picture:
    """Return what the network is given for a picture (uint8 [Y, X, 3]).

    Where it is stretched, that is the picture itself: the network's stage resizes it, as upstream does.
    """
    if shape.stretched:
        return picture
    inner = resize_levels(picture, *shape.inner)
    below = shape.network.height - shape.inner.height - shape.top
    right = shape.network.width - shape.inner.width - shape.left
    return np.pad(inner, ((shape.top, below), (shape.left, right), (0, 0)), mode="reflect")


def crop(frames: RgbFrames, shape: Shape) -> RgbFrames:
    """Return frames [F, Y, X, 3] of the network's size without the padding."""
    rows = slice(shape.top, shape.top + shape.inner.height)
    return frames[:, rows, shape.left : shape.left + shape.inner.width]
