"""Frames as transformers prepares them, and the decision about them."""

import numpy as np
import pytest
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from jax_interp.guardrails.frames.frame_safety import CLASSES, classify_frames, judge, prepare_for_classifier


def clip(count, height, width):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def logits(*classes):
    return np.eye(len(CLASSES), dtype=np.float32)[list(classes)] * 3 - 1


@pytest.mark.parametrize(("size", "side"), [((90, 160), 56), ((33, 20), 45), ((384, 384), 384)])
def test_frames_are_prepared_as_transformers_does(size, side):
    frames = clip(2, *size)
    processor = SiglipImageProcessorPil(
        size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=3
    )
    theirs = processor(images=list(frames), return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    ours = prepare_for_classifier(frames, side)
    assert ours.dtype == np.float32
    assert (ours == theirs).all()
    other = processor(images=list(frames[..., ::-1]), return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    assert (ours != other).any()


@pytest.mark.parametrize("frames", [clip(2, 8, 8).astype(np.float32), clip(1, 8, 8)[0], clip(1, 8, 8)[..., :2]])
def test_what_are_no_frames_is_refused(frames):
    with pytest.raises(ValueError, match="expected uint8 frames"):
        prepare_for_classifier(frames, 14)


def test_the_first_class_alone_is_safe():
    assert judge(logits(0, 0), [0, 1]).allowed
    for unsafe in range(1, len(CLASSES)):
        verdict = judge(logits(0, unsafe, 0), [4, 5, 6])
        assert not verdict.allowed
        assert verdict.category == CLASSES[unsafe]
        assert "frame 5" in verdict.reason


def test_of_equal_logits_none_makes_a_frame_safe():
    row = np.zeros((1, 7), np.float32)
    assert judge(row, [0]).category == "Sexual_Content"
    row[0, [0, 2, 3]] = 1
    assert judge(row, [0]).category == "Violence"
    row[0, 0] = np.nextafter(np.float32(1), np.float32(2))
    assert judge(row, [0]).allowed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3])
def test_values_that_are_not_numbers_block(value, place):
    rows = logits(0, 0)
    rows[1, place] = value
    verdict = judge(rows, [0, 1])
    assert not verdict.allowed
    assert verdict.category is None
    assert "frame 1" in verdict.reason


@pytest.mark.parametrize("shape", [(2, 6), (2, 8), (1, 7), (3, 7), (7,), (2, 7, 1)])
def test_logits_of_a_wrong_shape_block(shape):
    assert not judge(np.zeros(shape, np.float32), [0, 1]).allowed


class Classifier:
    """Calls frames whose first level is `bad` violent, and remembers what it saw."""

    def __init__(self, bad=None):
        self.bad, self.batches = bad, []

    def __call__(self, pixels):
        self.batches.append(pixels.shape)
        levels = np.rint((pixels[:, 0, 0, 0] + 1) * 127.5).astype(int)
        return logits(*(2 if level == self.bad else 0 for level in levels))


def numbered(count):
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 5, 6, 3))


def test_every_frame_is_seen_in_batches_of_one_size():
    classify = Classifier()
    assert classify_frames(numbered(10), classify, 14, batch_size=4).allowed
    assert classify.batches == [(4, 14, 14, 3)] * 3


@pytest.mark.parametrize("bad", range(10))
def test_one_unsafe_frame_blocks(bad):
    classify = Classifier(bad)
    verdict = classify_frames(numbered(10), classify, 14, batch_size=4, numbers=range(100, 200, 10))
    assert not verdict.allowed
    assert verdict.category == "Violence"
    assert f"frame {100 + 10 * bad}" in verdict.reason
    assert len(classify.batches) == bad // 4 + 1


def test_no_frames_and_a_broken_classifier_block():
    assert not classify_frames(numbered(0), Classifier(), 14).allowed
    assert not classify_frames(numbered(3), lambda pixels: np.zeros((2, 7), np.float32), 14).allowed
    assert not classify_frames(numbered(3), lambda pixels: np.full((8, 7), np.nan, np.float32), 14).allowed
