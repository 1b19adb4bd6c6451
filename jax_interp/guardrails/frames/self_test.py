"""The self-test of networks that guard frames: a broken one calls every frame safe and finds no face.

Weights that are all zero, a layer that lets nothing through or a head that is constant make a network whose answer is
the same whatever it is shown, and that answer looks like any other. So each network is shown a few drawn pictures
before it is believed, and each of its answers has to differ between them. What it says about them is not asked: there
is no drawn face that every detector has to find, and one that works must not be refused.
"""

import numpy as np
from jaxtyping import Float, UInt8

from jax_interp.guardrails.frames.faces import (
    ANCHOR_SIZES,
    SCORE_THRESHOLD,
    STRIDES,
    AnchorOutputs,
    anchor_boxes,
    decode_boxes,
)

MIN_DIFFERENCE = 1e-4
"""How much an answer has to differ between two of the pictures, in log-odds, units of boxes, or logits.

Rounding makes differences of less than 1e-5; tiny networks with random weights make differences of 3e-3.
"""

MIN_SHARE_ON_PICTURE = 0.1
"""The share of all anchors whose boxes have to reach into the picture: those of a network that works nearly all do."""

SAME = "answers the same whatever it is shown"
NOT_NUMBERS = "gave values that are not numbers"
_SMALLEST, _LARGEST = 1e-30, 1 - 1e-7
"""The range of probabilities whose odds float32 can represent."""


def pictures(height: int, width: int) -> UInt8[np.ndarray, "4 Y X 3"]:
    """Draw four pictures that have little in common: darkness, noise in coarse squares, changing colours, a face."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    dark = np.full((height, width, 3), 24.0)
    coarse = np.random.default_rng(0).uniform(0, 255, (-(-height // 4), -(-width // 4), 3))
    noise = coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    colours = np.stack([255 * x, 255 * y, 255 * (1 - x)], axis=-1)
    return np.stack([dark, noise, colours, _face(x, y)]).astype(np.uint8)


def _face(x: Float[np.ndarray, "Y X"], y: Float[np.ndarray, "Y X"]) -> Float[np.ndarray, "Y X 3"]:
    """Return a face that fills most of the picture; `x` and `y` run from 0 to 1."""

    def oval(across: float, down: float, half_width: float, half_height: float) -> np.ndarray:
        return ((x - across) / half_width) ** 2 + ((y - down) / half_height) ** 2 < 1

    picture = np.full((*x.shape, 3), (90.0, 120.0, 160.0))
    picture[oval(0.5, 0.45, 0.36, 0.46)] = (60, 40, 25)  # hair
    picture[oval(0.5, 0.52, 0.30, 0.40)] = (224, 172, 140)
    for side in (0.38, 0.62):
        picture[oval(side, 0.45, 0.07, 0.04)] = (250, 250, 250)
        picture[oval(side, 0.45, 0.03, 0.035)] = (40, 25, 20)
        picture[oval(side, 0.37, 0.08, 0.015)] = (60, 40, 25)
    picture[oval(0.5, 0.58, 0.03, 0.08)] = (190, 135, 105)
    picture[oval(0.5, 0.73, 0.11, 0.035)] = (170, 60, 65)
    return picture


def fault_of_detector(found: AnchorOutputs, size: tuple[int, int]) -> str | None:
    """Return what is wrong with a face detector that returned `found` for `pictures(*size)`; None if nothing is.

    Scores and boxes have to differ for every feature map and each of its two anchor sizes, or no face of that size is
    ever found. A detector that sees faces everywhere passes: it lets nothing be recognised.
    """
    if not (np.isfinite(found.scores).all() and np.isfinite(found.offsets).all()):
        return NOT_NUMBERS
    start = 0
    for cell, sides in zip(STRIDES, ANCHOR_SIZES, strict=True):
        count = -(-size[0] // cell) * -(-size[1] // cell) * len(sides)
        level = slice(start, start + count)
        if not _looks(found.scores[:, level], found.offsets[:, level], len(sides)):
            return f"{SAME}, where it looks for faces of {' and '.join(map(str, sides))} pixels"
        start += count
    if min(_share_on_picture(offsets, size) for offsets in found.offsets) < MIN_SHARE_ON_PICTURE:
        return "puts its boxes beside the picture"
    return None


def _looks(scores: np.ndarray, offsets: np.ndarray, sizes: int) -> bool:
    """Tell whether the answers of one feature map, [pictures, anchors, ...], differ for each of its sizes of faces."""
    scores = scores.reshape(len(scores), -1, sizes)
    probabilities = np.clip(scores.astype(np.float64), _SMALLEST, _LARGEST)
    odds = np.log(probabilities) - np.log1p(-probabilities)
    differs = _difference(odds).max(axis=0) >= MIN_DIFFERENCE
    always_sees = (scores > SCORE_THRESHOLD).all(axis=(0, 1))
    boxes_differ = _difference(offsets.reshape(len(offsets), -1, sizes, 4)).max(axis=0) >= MIN_DIFFERENCE
    return bool((differs | always_sees).all() and boxes_differ.all())


def _share_on_picture(offsets: np.ndarray, size: tuple[int, int]) -> float:
    left, top, right, bottom = decode_boxes(offsets, anchor_boxes(*size), size).T
    return float(((left < size[1]) & (top < size[0]) & (right > 0) & (bottom > 0)).mean())


def fault_of_classifier(logits: Float[np.ndarray, "pictures classes"]) -> str | None:
    """Return what is wrong with a classifier that returned `logits` for these pictures; None if nothing is."""
    if not np.isfinite(logits).all():
        return NOT_NUMBERS
    return SAME if _difference(logits).min() < MIN_DIFFERENCE else None


def _difference(answers: np.ndarray) -> np.ndarray:
    """Return the largest difference between two pictures, which are along the first axis."""
    return answers.max(axis=0) - answers.min(axis=0)
