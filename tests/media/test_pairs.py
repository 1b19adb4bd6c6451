import weakref
from typing import Any

import numpy as np
import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.pairs import batches, iterate_pairs, join_pairs, num_pairs


@pytest.mark.parametrize(
    ("num_frames", "stride", "start", "pairs"),
    [(2, 1, 0, 1), (4, 1, 0, 3), (4, 2, 0, 1), (5, 2, 0, 2), (5, 4, 0, 1), (10, 3, 2, 2), (10, 3, 0, 3), (10, 1, 8, 1)],
)
def test_number_of_pairs(num_frames, stride, start, pairs):
    assert num_pairs(num_frames, stride, start) == pairs
    assert num_pairs(num_frames, stride, start, pairs) == pairs
    assert num_pairs(num_frames, stride, start, 1) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 0, 0), r"--frame-stride 0: must be at least 1"),
        ((4, 1, -1), r"--frame-index-start -1: must be 0 or more"),
        ((4, 1, 0, 0), r"--num-frame-pairs 0: must be at least 1"),
        ((4, -2, -1, -3), r"--frame-stride -2.*--frame-index-start -1.*--num-frame-pairs -3"),
        ((4, 4, 0), r"--frame-stride 4: .* end at frame 4, .* 4 frames \(0 to 3\); use 3 or less"),
        ((4, 3, 1), r"--frame-stride 3: .* use 2 or less"),
        ((4, 1, 3), r"--frame-index-start 3: .* 4 frames \(0 to 3\).* frame 2 or before"),
        ((4, 1, 9), r"--frame-index-start 9"),
        ((10, 2, 1, 5), r"--num-frame-pairs 5: the input has 4 pairs .*ask for 4 or fewer"),
    ],
)
def test_impossible_pairs_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        num_pairs(*arguments)


@pytest.mark.parametrize(
    ("stride", "start", "count", "expected"),
    [
        (1, 0, 3, [(0, 0, 1), (1, 1, 2), (2, 2, 3)]),
        (2, 1, 2, [(0, 1, 3), (1, 3, 5)]),
        (3, 4, 1, [(0, 4, 7)]),
        (1, 0, 0, []),
    ],
)
def test_pairs_are_the_right_frames(stride, start, count, expected):
    assert list(iterate_pairs(range(8), stride, start, count)) == expected


def test_reading_stops_with_the_last_pair():
    read = []
    frames = (read.append(index) or index for index in range(100))
    assert len(list(iterate_pairs(frames, 2, 1, 2))) == 2
    assert read == [0, 1, 2, 3, 4, 5]


def test_two_frames_are_held_at_most():
    living: list[weakref.ref] = []

    def frames():
        for index in range(12):
            assert sum(ref() is not None for ref in living) <= 2
            frame = np.full(3, index)
            living.append(weakref.ref(frame))
            yield frame
            del frame

    seen = []
    for k, first, last in iterate_pairs(frames(), 3, 1, 3):
        seen.append((k, int(first[0]), int(last[0])))
        del first, last
    assert seen == [(0, 1, 4), (1, 4, 7), (2, 7, 10)]


def test_arrays_work_too():
    frames = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    pairs = list(iterate_pairs(frames, 2, 0, 2))
    assert all(
        np.array_equal(first, frames[2 * k]) and np.array_equal(last, frames[2 * k + 2]) for k, first, last in pairs
    )
    assert len(pairs) == 2


@pytest.mark.parametrize(
    ("length", "missing"), [(3, "frame 4, the last of pair 1"), (0, "frame 0, the first of pair 0")]
)
def test_a_short_stream_names_the_missing_frame(length, missing):
    with pytest.raises(MediaError, match=f"ended before {missing}"):
        list(iterate_pairs(range(length), 2, 0, 3))


def test_the_repeated_frame_of_later_pairs_is_dropped():
    outputs: Any = np.arange(30).reshape(3, 10)
    joined = np.concatenate(list(join_pairs(iter(outputs))))
    assert joined.tolist() == [*range(10), *range(11, 20), *range(21, 30)]
    assert len(joined) == 9 * 3 + 1


def test_joining_holds_nothing_back():
    asked = []
    outputs: Any = (asked.append(k) or np.zeros(10) for k in range(5))
    next(join_pairs(outputs))
    assert asked == [0]


def test_batches_are_read_one_after_the_other():
    read = []
    together = batches((read.append(k) or k for k in range(5)), 2)
    assert next(together) == [0, 1]
    assert read == [0, 1]
    assert list(together) == [[2, 3], [4]]
