"""A network that works passes, and one that does not look at what it is shown does not."""

import numpy as np
import pytest

from jax_interp.guardrails.frames.faces import STRIDES, AnchorOutputs, anchor_boxes
from jax_interp.guardrails.frames.self_test import (
    MIN_DIFFERENCE,
    NOT_NUMBERS,
    SAME,
    fault_of_classifier,
    fault_of_detector,
    pictures,
)

SIZES = [(704, 1280), (64, 96), (33, 50), (16, 16), (8, 8)]


@pytest.mark.parametrize("size", SIZES)
def test_pictures_differ_and_are_always_the_same(size):
    drawn = pictures(*size)
    assert drawn.shape == (4, *size, 3)
    assert drawn.dtype == np.uint8
    assert (drawn == pictures(*size)).all()
    for first in range(4):
        for second in range(first):
            assert np.abs(drawn[first].astype(int) - drawn[second].astype(int)).mean() > 20


def test_the_face_has_eyes_and_a_mouth():
    face = pictures(100, 100)[3].astype(int)
    skin = face[58, 36]
    for row, column in ((45, 38), (45, 62), (73, 50), (5, 50)):
        assert np.abs(face[row, column] - skin).sum() > 100
    assert (face[0, 0] != skin).any()


def found(size, seed=0, spread=0.1):
    """What a detector may say about the pictures: little is a face, and everything differs a little."""
    draw = np.random.default_rng(seed)
    anchors = len(anchor_boxes(*size))
    odds = draw.normal(-8, spread, (4, anchors))
    return AnchorOutputs(
        draw.normal(0, spread, (4, anchors, 4)).astype(np.float32), (1 / (1 + np.exp(-odds))).astype(np.float32)
    )


def level(size, index):
    """Where the anchors of a feature map are."""
    counts = [2 * -(-size[0] // cell) * -(-size[1] // cell) for cell in STRIDES]
    return slice(sum(counts[:index]), sum(counts[: index + 1]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spread", [0.1, 3])
def test_a_detector_that_works_passes(size, spread):
    assert fault_of_detector(found(size, spread=spread), size) is None


@pytest.mark.parametrize("size", [(64, 96), (8, 8)])
def test_one_that_is_all_zero_does_not(size):
    anchors = len(anchor_boxes(*size))
    dead = AnchorOutputs(np.zeros((4, anchors, 4), np.float32), np.full((4, anchors), 0.5, np.float32))
    assert (fault_of_detector(dead, size) or "").startswith(SAME)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("part", ["scores", "offsets"])
@pytest.mark.parametrize("which", ["both sizes", "larger size"])
def test_one_with_a_dead_head_does_not(index, part, which):
    """What it says may differ from place to place, as it does at the borders, but not from picture to picture."""
    size = (64, 96)
    said = found(size)
    anchors = np.arange(len(anchor_boxes(*size)))[level(size, index)]
    anchors = anchors if which == "both sizes" else anchors[1::2]
    array = getattr(said, part)
    array[:, anchors] = array[:1, anchors]
    fault = fault_of_detector(said, size)
    assert fault is not None
    assert fault.startswith(SAME)
    assert ("16 and 32", "64 and 128", "256 and 512")[index] in fault


def test_one_that_always_sees_faces_passes_and_one_that_never_does_not():
    size = (64, 96)
    for score, passes in ((1.0, True), (0.71, True), (0.69, False), (0.0, False)):
        said = found(size)
        said.scores[:, level(size, 2)] = score
        assert (fault_of_detector(said, size) is None) == passes


def test_one_coordinate_of_the_boxes_that_never_changes_is_enough():
    size = (64, 96)
    said = found(size)
    said.offsets[..., 3] = 0.1
    assert (fault_of_detector(said, size) or "").startswith(SAME)


def test_differences_that_are_rounding_are_none():
    size = (64, 96)
    assert (fault_of_detector(found(size, spread=MIN_DIFFERENCE / 100), size) or "").startswith(SAME)


@pytest.mark.parametrize("part", ["scores", "offsets"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_do_not_pass(part, value):
    said = found((64, 96))
    getattr(said, part)[2, 7] = value
    assert fault_of_detector(said, (64, 96)) == NOT_NUMBERS


def test_boxes_beside_the_picture_do_not_pass():
    said = found((64, 96))
    said.offsets[..., 0] += 1000
    assert "beside the picture" in (fault_of_detector(said, (64, 96)) or "")


def test_scores_at_the_ends_of_what_float32_tells_pass():
    said = found((64, 96))
    said.scores[:2] = np.where(said.scores[:2] > said.scores[:2].mean(), np.float32(1), np.float32(0))
    assert fault_of_detector(said, (64, 96)) is None


def test_a_classifier():
    logits = np.random.default_rng(0).normal(0, 1, (4, 7)).astype(np.float32)
    assert fault_of_classifier(logits) is None
    assert fault_of_classifier(logits + 1e3 * np.eye(7, dtype=np.float32)[0]) is None  # all of them safe
    assert fault_of_classifier(np.zeros((4, 7), np.float32)) == SAME
    constant = logits.copy()
    constant[:, 3] = -50
    assert fault_of_classifier(constant) == SAME
    assert fault_of_classifier(np.where(np.eye(4, 7), np.nan, logits)) == NOT_NUMBERS
