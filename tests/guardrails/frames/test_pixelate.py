"""Pixelation against what OpenCV 5.0 gave for the same pictures (`tests/data/pixelated_faces.npz`)."""

from pathlib import Path

import numpy as np
import pytest

from jax_interp.guardrails.frames.pixelate import as_blocks, pixelate

GOLDEN = np.load(Path(__file__).parents[2] / "data/pixelated_faces.npz")


def pattern(height, width):
    y, x, channel = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * 37 + y * 11 + channel * 97 + x * y * 7) % 256).astype(np.uint8)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def changed(before, after):
    """(top, bottom, left, right) of what differs."""
    rows, columns = np.nonzero((before != after).any(-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize("size", GOLDEN.files)
def test_faces_equal_opencvs(size):
    expected = GOLDEN[size]
    ours = as_blocks(pattern(*expected.shape[:2]))
    difference = np.abs(ours.astype(int) - expected.astype(int)).max()
    assert difference <= (1 if min(expected.shape[:2]) < 5 else 0)  # as narrow as at a border: within 1
    assert len(np.unique(ours.reshape(-1, 3), axis=0)) <= 25


def test_another_picture_is_noticed():
    expected = GOLDEN["23x31"].astype(int)
    assert np.abs(as_blocks(pattern(31, 23).swapaxes(0, 1)).astype(int) - expected).max() > 1
    assert np.abs(as_blocks(np.roll(pattern(23, 31), 1, axis=1)).astype(int) - expected).max() > 1


def test_a_box_loses_its_fractions_and_the_rest_of_the_frame_stays():
    frame = pattern(60, 80)
    before = frame.copy()
    blurred = pixelate(frame, boxes((10.9, 5.2, 40.7, 35.99)))
    assert (frame == before).all()
    assert (blurred[5:35, 10:40] == as_blocks(frame[5:35, 10:40])).all()
    assert changed(frame, blurred) == (5, 35, 10, 40)


def test_no_box_changes_nothing():
    frame = pattern(30, 30)
    assert (pixelate(frame, boxes()) == frame).all()


@pytest.mark.parametrize("box", [(0, 0, 19.99, 40), (0, 0, 40, 19.99), (3, 3, 22.9, 60)])
def test_small_faces_are_left_alone(box):
    frame = pattern(64, 64)
    assert (pixelate(frame, boxes(box)) == frame).all()
    assert (pixelate(frame, boxes((0, 0, 20, 20))) != frame).any()


@pytest.mark.parametrize(
    ("box", "seen"),
    [
        ((-12.5, -3.9, 15, 30), (0, 30, 0, 15)),
        ((50, 40, 90, 80), (40, 48, 50, 64)),
        ((-0.9, 20, 21, 41), (20, 41, 0, 21)),
        ((62, 0, 200, 200), (0, 48, 62, 64)),
    ],
)
def test_a_face_at_the_border_is_measured_whole_and_cut_off(box, seen):
    frame = pattern(48, 64)
    blurred = pixelate(frame, boxes(box))
    top, bottom, left, right = seen
    assert (blurred[top:bottom, left:right] == as_blocks(frame[top:bottom, left:right])).all()
    outside = np.ones(frame.shape[:2], bool)
    outside[top:bottom, left:right] = False
    assert (blurred[outside] == frame[outside]).all()


@pytest.mark.parametrize("box", [(-60, 5, -10, 45), (5, -60, 45, -10), (70, 5, 120, 45), (5, 48, 45, 90)])
def test_a_face_outside_the_frame_changes_nothing(box):
    frame = pattern(48, 64)
    assert (pixelate(frame, boxes(box)) == frame).all()


def test_overlapping_faces_come_one_after_the_other():
    frame = pattern(50, 50)
    first, second = (0, 0, 30, 30), (10, 10, 45, 45)
    assert (pixelate(frame, boxes(first, second)) == pixelate(pixelate(frame, boxes(first)), boxes(second))).all()
    assert (pixelate(frame, boxes(first, second)) != pixelate(frame, boxes(second, first))).any()


@pytest.mark.parametrize("far", [1e10, 1e19, 1e30])
def test_a_face_without_end_covers_the_frame(far):
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    whole, endless = (np.array([box], np.float32) for box in ([0, 0, 60, 40], [-far, -far, far, far]))
    assert (pixelate(frame, endless) == pixelate(frame, whole)).all()
    assert (pixelate(frame, whole) != frame).any()
