"""The safety of frames: every frame is classified, and one that is not safe blocks the video.

The network is an argument, so nothing here loads weights or knows where they are. What cannot be judged blocks.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Float32, UInt8

from jax_interp.guardrails.verdict import Verdict
from jax_interp.types import Frames

CLASSES = ("Safe", "Sexual_Content", "Violence", "Drugs", "Child_Abuse", "Hate_and_Harassment", "Self-Harm")
"""The class of each logit; only the first lets a frame pass. Source: upstream's video content safety filter."""

BATCH_SIZE = 10
"""The number of frames that go through the network at a time: those of a pair."""

Classify = Callable[[Float32[np.ndarray, "B size size 3"]], Float[np.ndarray, "B classes"]]
"""A classifier: a function from frames that `prepare_for_classifier` made to logits (`models.safety_head.VideoSafety`).

`lambda pixels: np.tile(np.float32([1, 0, 0, 0, 0, 0, 0]), (len(pixels), 1))` calls every frame safe.
"""


def prepare_for_classifier(frames: Frames, image_size: int) -> Float32[np.ndarray, "F {image_size} {image_size} 3"]:
    """Return RGB levels 0 to 255 in SigLIP's form: squares of `image_size` pixels, in [-1, 1].

    Resizing is bicubic (a = -0.5) with antialiasing when shrinking, and rounds to whole levels; the aspect ratio is
    not kept. Source:
    SigLIP's processor in transformers, which this equals to the bit.

    Raises:
        ValueError: `frames` is not uint8 [F, Y, X, 3].
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
        raise ValueError(f"expected uint8 frames [F, Y, X, 3], got {frames.dtype} {frames.shape}")
    prepared = np.empty((len(frames), image_size, image_size, 3), np.float32)
    with ThreadPoolExecutor() as pool:  # neither Pillow nor NumPy hold the interpreter's lock while they compute
        for _ in pool.map(_prepare_frame, frames, prepared):
            pass
    return prepared


def _prepare_frame(frame: UInt8[np.ndarray, "Y X 3"], target: Float32[np.ndarray, "size size 3"]) -> None:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(frame))
    resized = picture.resize((target.shape[1], target.shape[0]), Image.Resampling.BICUBIC)
    # parity: scaled in float64 and rounded once, then shifted and stretched in float32.
    target[:] = np.asarray(resized, np.float64) * (1 / 255)
    target -= np.float32(0.5)
    target /= np.float32(0.5)


def classify_frames(
    frames: Frames,
    classify: Classify,
    image_size: int,
    *,
    numbers: Sequence[int] | None = None,
    batch_size: int = BATCH_SIZE,
) -> Verdict:
    """Classify `frames`, a batch at a time, up to the first one that is not safe.

    Every batch has `batch_size` frames, the last one with repetitions at its end, so that one compiled program serves.
    `numbers` are the frames' numbers in a reason, by default counted from 0. A video without frames is not safe.

    Raises:
        ValueError: as `prepare_for_classifier`. What `classify` raises passes through: whoever catches it has to block.
    """
    if len(frames) == 0:
        return Verdict.block("there are no frames to look at")
    numbers = range(len(frames)) if numbers is None else numbers
    for start in range(0, len(frames), batch_size):
        batch = frames[start : start + batch_size]
        pixels = prepare_for_classifier(batch, image_size)
        padding = [(0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
        logits = np.asarray(classify(np.pad(pixels, padding, mode="edge")))
        if logits.shape != (batch_size, len(CLASSES)):
            return Verdict.block(f"the classifier of frames gave {logits.shape}, expected {(batch_size, len(CLASSES))}")
        verdict = judge(logits[: len(batch)], numbers[start : start + len(batch)])
        if not verdict.allowed:
            return verdict
    return Verdict.allow()


def judge(logits: Float[np.ndarray, "F classes"], numbers: Sequence[int]) -> Verdict:
    """Judge frames by their logits; a reason names a frame by its entry in `numbers`.

    A frame is safe if the logit of `Safe` is larger than every other; upstream also accepts a tie. Logits that are not
    numbers, too few or too many block.
    """
    if logits.shape != (len(numbers), len(CLASSES)):
        return Verdict.block(
            f"the classifier of frames gave logits of shape {logits.shape}, expected {(len(numbers), len(CLASSES))}"
        )
    for number, row in zip(numbers, logits, strict=True):
        if not np.isfinite(row).all():
            return Verdict.block(f"frame {number}: the classifier gave values that are not numbers")
        unsafe = 1 + int(row[1:].argmax())
        if not row[0] > row[unsafe]:
            return Verdict.block(f"frame {number} is not safe", category=CLASSES[unsafe])
    return Verdict.allow()
