"""Cuts found as frames go by, and cuts that a file lists."""

import json
import weakref

import numpy as np
import pytest

from jax_interp.errors import UsageError
from jax_interp.media.timeline.scene_cuts import AdaptiveCuts, check_cuts, every, read_cuts, with_cuts
from tests.media import film_clips


def found(frames):
    return [index for index, (_, cut) in enumerate(with_cuts(iter(frames), AdaptiveCuts())) if cut]


@pytest.mark.parametrize("cut", [1, 2, 6, 10, 11])
def test_a_cut_is_found_also_near_both_ends(cut):
    assert found(film_clips.with_cut(12, cut, 96, 128)) == [cut]


def test_motion_is_no_cut():
    assert found(film_clips.moving_square(12, 96, 128, (60, 120, 60), step=9)) == []


def test_a_scene_of_one_frame():
    frames = film_clips.moving_square(12, 96, 128, (200, 60, 30))
    frames[5] = (250, 240, 10)
    assert found(frames) == [5, 6]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_short_clips_come_back_whole(count):
    frames = film_clips.moving_square(count, 96, 128, (60, 120, 60))
    back = [frame for frame, _ in with_cuts(iter(frames), AdaptiveCuts())]
    assert len(back) == count
    assert all(np.array_equal(a, b) for a, b in zip(back, frames, strict=True))


def test_few_frames_are_held():
    alive = []

    def frames():
        for _ in range(40):
            frame = np.zeros((96, 128, 3), np.uint8)
            alive.append(weakref.ref(frame))
            yield frame

    most = 0
    for _ in with_cuts(frames(), AdaptiveCuts()):
        most = max(most, sum(each() is not None for each in alive))
    assert most <= 6


def test_a_cut_between_frames_that_are_used_counts():
    flags = [False, False, True, False, False, False, True]
    assert list(every(enumerate(flags), 1)) == list(enumerate(flags))
    assert list(every(enumerate(flags), 3)) == [(0, False), (3, True), (6, True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12\n7\n7\n", (7, 12)),
        ("", ()),
        ("\ufeff# cuts\r\n 3 # the door\r\n\r\n", (3,)),
        (json.dumps({"timeline": {"scene_cuts": [4, 9]}}), (4, 9)),
    ],
)
def test_files_of_cuts(tmp_path, text, expected):
    path = tmp_path / "cuts"
    path.write_text(text)
    assert read_cuts(path) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"3\nthe door\n", "line 2: 'the door' is no frame number"),
        (b"-3\n", "line 1: '-3' is no frame number"),
        (b"1.5\n", "line 1: '1.5' is no frame number"),
        ("٣\n".encode(), "line 1: '٣' is no frame number"),
        (b"9" * 30, "line 1: '9+' is no frame number"),
        (b"\xff\xfe3\n", "is no text in UTF-8"),
        (b'{"frames": [3]}', "is JSON, but no run record with scene cuts"),
        (b'{"timeline": {"scene_cuts": ["3"]}}', "'3' is no frame number"),
        (b'{"timeline": {"scene_cuts": [true]}}', "'True' is no frame number"),
        (b"{" * 100_000, "is JSON, but no run record"),
    ],
)
def test_nonsense_names_file_line_and_what_was_expected(tmp_path, content, message):
    path = tmp_path / "cuts.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"--scene-cuts .*cuts.txt: {message}.*; expected the number of a frame"):
        read_cuts(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.txt: cannot be read \(No such file or directory\)"):
        read_cuts(tmp_path / "gone.txt")


@pytest.mark.parametrize("cuts", [(0,), (10,), (3, 11)])
def test_cuts_outside_the_input(cuts):
    with pytest.raises(UsageError, match=r"--scene-cuts: frame \d+ begins no scene of an input of 10 frames"):
        check_cuts(cuts, 10)
    check_cuts((1, 9), 10)
