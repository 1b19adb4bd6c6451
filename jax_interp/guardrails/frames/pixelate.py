"""Pixelation of faces to a few squares of one colour each, so that nobody can be recognised."""

import numpy as np
from jaxtyping import Float32, Int, UInt8

BLOCKS = 5
"""The number of squares along each side of a face."""

MIN_SIDE = 20
"""The smallest side in pixels of a face that is pixelated."""

_FAR = 1e9
"""Pixels beyond every frame, to which boxes are cut before they become whole numbers, which would overflow."""

Frame = UInt8[np.ndarray, "Y X 3"]

_ONE = 2048
"""parity: weights of neighbouring pixels are multiples of 1/2048."""


def pixelate(frame: Frame, boxes: Float32[np.ndarray, "faces 4"]) -> Frame:
    """Return a copy of `frame` with each box (left, top, right, bottom in pixels) as `BLOCKS` by `BLOCKS` squares.

    Boxes are rounded towards zero. Boxes with a side below `MIN_SIDE` pixels are left alone; what reaches past
    the border is cut off after that. Where boxes overlap, a later one pixelates what an earlier one has left.
    Source: `blur_detected_faces` of upstream's face filter.
    """
    frame = frame.copy()
    height, width = frame.shape[:2]
    for left, top, right, bottom in np.clip(boxes, -_FAR, _FAR).astype(np.int64):
        if right - left < MIN_SIDE or bottom - top < MIN_SIDE:
            continue
        rows, columns = slice(max(top, 0), max(min(bottom, height), 0)), slice(max(left, 0), max(min(right, width), 0))
        face = frame[rows, columns]
        if face.size:
            frame[rows, columns] = as_blocks(face)
    return frame


def as_blocks(face: Frame) -> Frame:
    """Return `face` as `BLOCKS` by `BLOCKS` squares of the colour around the centre of each.

    parity: OpenCV's `resize`, linear and without smoothing to the small size, then nearest to the old one.
    """
    height, width = face.shape[:2]
    return _shrink(face)[_block_of(height)][:, _block_of(width)]


def _shrink(face: Frame) -> UInt8[np.ndarray, "blocks blocks 3"]:
    """Return one colour a block: four pixels, weighted by whole numbers as OpenCV does for bytes."""
    (top, bottom, down), (left, right, across) = (_neighbours(length) for length in face.shape[:2])
    values = face.astype(np.int64)
    across = across[:, None]
    upper, lower = (values[row][:, left] * (_ONE - across) + values[row][:, right] * across for row in (top, bottom))
    down = down[:, None, None]
    mixed = ((upper >> 4) * (_ONE - down) >> 16) + ((lower >> 4) * down >> 16)
    return ((mixed + 2) >> 2).astype(np.uint8)


def _neighbours(
    length: int,
) -> tuple[Int[np.ndarray, " blocks"], Int[np.ndarray, " blocks"], Int[np.ndarray, " blocks"]]:
    """Return the two pixels around the centre of each block, and the weight of the second one in parts of `_ONE`."""
    centres = ((np.arange(BLOCKS) + 0.5) * (length / BLOCKS) - 0.5).astype(np.float32)
    first = np.floor(centres).astype(np.int64)
    weights = centres - first.astype(np.float32)
    outside = (first < 0) | (first >= length - 1)
    weights = np.where(outside, np.float32(0), weights)
    first = np.clip(first, 0, length - 1)
    return first, np.minimum(first + 1, length - 1), np.rint(weights * _ONE).astype(np.int64)


def _block_of(length: int) -> Int[np.ndarray, " length"]:
    """Return the number of the block that each of `length` pixels is in.

    parity: in float64 by the inverse of the ratio, whose rounding moves the border of some blocks by a pixel.
    """
    step = 1 / (length / BLOCKS)
    return np.minimum(np.floor(np.arange(length) * step).astype(np.int64), BLOCKS - 1)
