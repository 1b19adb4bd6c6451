"""The preparation of a picture for Pixtral: shrunk to a grid of whole patches, normalised; and its prompt tokens."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from jax_interp.config import PixtralVisionConfig
from jax_interp.errors import MediaError, UsageError
from jax_interp.media.picture_tokens import TOKEN_NAMES, PictureTokens, TokenT
from jax_interp.media.source import Picture

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
"""The mean of RGB in [0, 1] over CLIP's training pictures."""

DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def picture_patch_grid(height: int, width: int, config: PixtralVisionConfig) -> tuple[int, int]:
    """Return (rows, columns) of patches for a picture of this size in pixels.

    A picture is shrunk to a longest side of `config.image_size` if it is larger, keeping its aspect ratio; both sides
    are then rounded up to whole patches.

    Raises:
        MediaError: the picture is empty, or so elongated that its short side would vanish.
    """
    if not height or not width:
        raise MediaError(f"a picture of {width}x{height} pixels is empty; give one with at least one pixel")
    ratio = max(height / config.image_size, width / config.image_size)
    # parity: rounded down, not to the nearest, and divided by the ratio rather than multiplied by its inverse.
    fitted = [math.floor(side / ratio) if ratio > 1 else side for side in (height, width)]
    if not all(fitted):
        raise MediaError(
            f"a picture of {width}x{height} pixels is too elongated: shrunk to {config.image_size} pixels, its short"
            f" side would be less than one; crop it to an aspect ratio of at most {config.image_size}:1"
        )
    rows, columns = (-(-side // config.patch_size) for side in fitted)
    return rows, columns


def prepare_picture(picture: Picture, config: PixtralVisionConfig) -> Float32[np.ndarray, "Y X 3"]:
    """Resize RGB levels 0 to 255 to whole patches (`picture_patch_grid`) and normalise them as CLIP does.

    Resizing is bicubic (a = -0.5), with antialiasing when shrinking, and rounds to whole levels. The aspect ratio
    changes by less than a patch on each side. Source: Pixtral's processor in transformers.

    Raises:
        MediaError: as `picture_patch_grid`.
        ValueError: `picture` is not uint8 [Y, X, 3].
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(f"expected a uint8 picture [Y, X, 3], got {picture.dtype} {picture.shape}")
    from PIL import Image

    rows, columns = picture_patch_grid(picture.shape[0], picture.shape[1], config)
    size = columns * config.patch_size, rows * config.patch_size
    resized = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    return (np.asarray(resized, np.float32) / np.float32(255) - MEAN) / DEVIATION


def picture_tokens(grid: tuple[int, int], tokens: PictureTokens[TokenT]) -> list[TokenT]:
    """Return the tokens of a picture of (rows, columns) patches: one each, a break after each row, an end at the last.

    Raises:
        ValueError: `grid` holds no patch.
    """
    rows, columns = grid
    if rows < 1 or columns < 1:
        raise ValueError(f"a grid of {rows}x{columns} holds no patch")
    row = [tokens.patch] * columns
    return [*([*row, tokens.row_break] * (rows - 1)), *row, tokens.end]


def expand_pictures(
    prompt: Sequence[TokenT], grids: Sequence[tuple[int, int]], tokens: PictureTokens[TokenT]
) -> list[TokenT]:
    """Return `prompt` with each patch token, of which every picture has one, replaced by all tokens of that picture.

    Raises:
        UsageError: the prompt does not have one patch token for each of `grids`.
    """
    places = sum(token == tokens.patch for token in prompt)
    if places != len(grids):
        raise UsageError(
            f"the prompt has {places} places for a picture ({TOKEN_NAMES.patch}), but {len(grids)} pictures come with"
            " it; the token has to stand there once for each picture and nowhere else"
        )
    waiting = iter(grids)
    expanded: list[TokenT] = []
    for token in prompt:
        expanded += picture_tokens(next(waiting), tokens) if token == tokens.patch else [token]
    return expanded
