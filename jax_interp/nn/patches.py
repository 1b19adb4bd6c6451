"""The conversion of pictures and latents to tokens, one for each square patch, and back."""

from jaxtyping import Array, Float

from jax_interp.types import Latents


def patchify(x: Latents, size: int) -> Float[Array, "B L P"]:
    """Return non-overlapping `size`×`size` patches as tokens; features are in the order (channel, row, column)."""
    batch, frames, height, width, channels = x.shape
    x = x.reshape(batch, frames, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 2, 4, 6, 3, 5).reshape(batch, -1, channels * size * size)


def unpatchify(x: Float[Array, "B L P"], grid: tuple[int, int, int], size: int) -> Latents:
    """Return the latents of a grid of patches; features of a patch are in the order (row, column, channel)."""
    frames, rows, columns = grid
    x = x.reshape(x.shape[0], frames, rows, columns, size, size, -1)
    x = x.transpose(0, 1, 2, 4, 3, 5, 6)
    return x.reshape(x.shape[0], frames, rows * size, columns * size, -1)
