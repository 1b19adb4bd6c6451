"""Detection of faces on frames, and frames on which no face can be recognised.

The network is an argument, so nothing here loads weights or knows where they are. Boxes are picked on the host: the
candidates are a handful of a frame's anchors, whose number changes from frame to frame, which suits no compiled
program, and NumPy orders equal scores as upstream does.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, UInt8

from jax_interp.guardrails.frames.pixelate import pixelate
from jax_interp.types import Frames

BATCH_SIZE = 5
"""The number of frames that go through the network at a time: half of those of a pair."""

MEANS = (104.0, 117.0, 123.0)
"""The means of blue, green and red over the detector's training pictures."""

STRIDES = (8, 16, 32)
"""The stride of each feature map: the side of its cells in pixels."""

ANCHOR_SIZES = ((16, 32), (64, 128), (256, 512))
"""The sizes in pixels of the anchors at every cell of each feature map."""

VARIANCES = (0.1, 0.2)
"""The variances that scale the predicted offsets of centres and of sizes."""

SCORE_THRESHOLD = 0.7
"""The probability above which an anchor counts as a face."""

IOU_THRESHOLD = 0.4
"""The intersection over union above which two boxes count as one face."""

MAX_CANDIDATES, MAX_FACES = 5000, 750

Boxes = Float32[np.ndarray, "faces 4"]
"""Boxes as left, top, right and bottom in pixels, which may reach past the border."""


class AnchorOutputs(NamedTuple):
    """The offsets and scores of every anchor for a batch of frames, from `models.retinaface.RetinaFaceOutputs`."""

    offsets: Float32[np.ndarray, "B anchors 4"]
    scores: Float32[np.ndarray, "B anchors"]


Detect = Callable[[UInt8[np.ndarray, "B Y X 3"]], AnchorOutputs]
"""A detector: a function from RGB frames to the network's outputs for `prepare_for_detector(frames)`.

`lambda frames: AnchorOutputs(np.zeros((len(frames), n, 4)), np.zeros((len(frames), n)))` finds no face (n anchors).
"""


class Blurred(NamedTuple):
    """Frames after faces were pixelated, and how many faces were found on each."""

    frames: Frames
    num_faces: tuple[int, ...]


def blur_faces(frames: Frames, detect: Detect, *, batch_size: int = BATCH_SIZE) -> Blurred:
    """Return a copy of `frames` with every face pixelated that is large enough (`pixelate`).

    Every batch has `batch_size` frames, the last one with repetitions at its end, so that one compiled program serves.
    The count includes faces that are too small.

    Raises:
        ValueError: `frames` is not uint8 [F, Y, X, 3], or `detect` returned arrays of a wrong shape.
        FloatingPointError: `detect` returned values that are not numbers. Whoever catches these has to block.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
        raise ValueError(f"expected uint8 frames [F, Y, X, 3], got {frames.dtype} {frames.shape}")
    blurred, counts = np.empty_like(frames), []
    for start in range(0, len(frames), batch_size):
        batch = frames[start : start + batch_size]
        padding = [(0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
        found = detect(np.pad(batch, padding, mode="edge"))
        for offset in range(len(batch)):
            boxes = find_faces(np.asarray(found.offsets[offset]), np.asarray(found.scores[offset]), frames.shape[1:3])
            blurred[start + offset] = pixelate(batch[offset], boxes)
            counts.append(len(boxes))
    return Blurred(blurred, tuple(counts))


def prepare_for_detector(frames: UInt8[Array, "B Y X 3"]) -> Float32[Array, "B Y X 3"]:
    """Return RGB levels 0 to 255 in the detector's form: blue, green, red, each less its mean."""
    return frames[..., ::-1].astype(jnp.float32) - jnp.array(MEANS, jnp.float32)


def find_faces(
    offsets: Float32[np.ndarray, "anchors 4"], scores: Float32[np.ndarray, " anchors"], size: tuple[int, int]
) -> Boxes:
    """Return the faces of a frame of `size` (height, width), the surest first.

    Raises:
        ValueError: there is not one row for each anchor.
        FloatingPointError: there are values that are not numbers.
    """
    anchors = anchor_boxes(*size)
    if offsets.shape != anchors.shape or scores.shape != anchors.shape[:1]:
        raise ValueError(
            f"a frame of {size[1]}x{size[0]} pixels has {len(anchors)} anchors, but the face detector gave offsets of"
            f" shape {offsets.shape} and scores of shape {scores.shape}"
        )
    if not (np.isfinite(offsets).all() and np.isfinite(scores).all()):
        raise FloatingPointError("the face detector gave values that are not numbers")
    sure = np.flatnonzero(scores > np.float32(SCORE_THRESHOLD))
    # parity: NumPy's own order of equal scores, reversed, here and in `non_max_suppression`.
    candidates = sure[scores[sure].argsort()[::-1][:MAX_CANDIDATES]]
    boxes = decode_boxes(offsets[candidates], anchors[candidates], size)
    if not np.isfinite(boxes).all():
        raise FloatingPointError("the face detector gave a box without bounds")
    return boxes[non_max_suppression(boxes, scores[candidates])[:MAX_FACES]]


@lru_cache(maxsize=4)
def anchor_boxes(height: int, width: int) -> Float32[np.ndarray, "anchors 4"]:
    """Return centre x and y, width and height of every anchor as shares of the frame's; 36,960 of them at 704×1280.

    The order is by feature map, row, cell and size; a cell that reaches past the border has its full size.
    """
    maps = []
    for cell, sides in zip(STRIDES, ANCHOR_SIZES, strict=True):
        rows, columns = -(-height // cell), -(-width // cell)
        y, x, side = np.meshgrid(
            (np.arange(rows) + 0.5) * cell, (np.arange(columns) + 0.5) * cell, np.array(sides, float), indexing="ij"
        )
        maps.append(np.stack([x / width, y / height, side / width, side / height], axis=-1).reshape(-1, 4))
    anchors = np.concatenate(maps).astype(np.float32)
    anchors.flags.writeable = False  # the next caller gets the same array
    return anchors


def decode_boxes(
    offsets: Float32[np.ndarray, "boxes 4"], anchors: Float32[np.ndarray, "boxes 4"], size: tuple[int, int]
) -> Boxes:
    """Decode offsets to boxes in pixels of a frame of `size` (height, width), in float32 throughout.

    Source: Liu et al. (2016), SSD, whose box coding RetinaFace keeps.
    """
    centre_unit, side_unit = (np.float32(variance) for variance in VARIANCES)
    centres = anchors[:, :2] + offsets[:, :2] * centre_unit * anchors[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        sides = anchors[:, 2:] * np.exp(offsets[:, 2:] * side_unit)
        corners = centres - sides / 2
        boxes = np.concatenate([corners, sides + corners], axis=1)
        return boxes * np.array([size[1], size[0]] * 2, np.float32)


def non_max_suppression(boxes: Boxes, scores: Float32[np.ndarray, " faces"]) -> Int[np.ndarray, " kept"]:
    """Apply non-maximum suppression: return the indices of boxes that no box with a higher score overlaps too much.

    parity: a box that ends at pixel 5 includes it, so sides are a pixel longer than the difference of their ends.
    """
    left, top, right, bottom = boxes.T
    areas = (right - left + 1) * (bottom - top + 1)
    waiting = scores.argsort()[::-1]
    kept = []
    while waiting.size:
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        shared_width = np.minimum(right[best], right[waiting]) - np.maximum(left[best], left[waiting]) + 1
        shared_height = np.minimum(bottom[best], bottom[waiting]) - np.maximum(top[best], top[waiting]) + 1
        shared = np.maximum(shared_width, 0) * np.maximum(shared_height, 0)
        waiting = waiting[shared / (areas[best] + areas[waiting] - shared) <= IOU_THRESHOLD]
    return np.array(kept, np.int64)
