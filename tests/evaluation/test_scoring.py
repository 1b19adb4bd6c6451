"""A clip scored pair by pair, with methods whose scores are known."""

import numpy as np
import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.evaluation.scoring import check_made, count_pairs, iterate_windows, pairs_across, score_clip
from jax_interp.media.source import FrameSource
from tests.media import clips

HEIGHT, WIDTH = 16, 24


def source(frames, num_frames=None):
    height, width = frames.shape[1:3]
    return FrameSource(
        num_frames=num_frames or len(frames),
        height=height,
        width=width,
        fps=None,
        description={"path": "clip"},
        read=lambda: iter(frames),
    )


@pytest.fixture
def truth():
    """A fade in even steps, of which the right half stands still."""
    frames = np.zeros((19, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, :, :12] = (np.arange(19) * 10)[:, None, None, None]
    return frames


def scored(truth, **made):
    clips = {name: source(frames) for name, frames in made.items()}
    return score_clip(source(truth), clips, pairs=2, stride=9, height=HEIGHT, width=WIDTH)


def test_the_truth_scores_best_and_a_blend_of_a_fade_as_well(truth):
    found = scored(truth, perfect=truth)
    assert list(found.methods) == ["perfect", "nearest", "blend"]
    summary = found.summary()
    for name in ("perfect", "blend"):
        of = summary["methods"][name]
        assert of["psnr"] == {"all": None, "moving": None, "still": None} or of["psnr"]["all"] > 140
        assert of["ssim"] == pytest.approx({"all": 1, "moving": 1, "still": 1}, abs=1e-5)
        assert of["seam"] == pytest.approx({"at_keyframes": 5, "between": 5}, abs=1e-5)  # half of the picture moves
        assert of["keyframes_psnr"] is None
    assert summary["methods"]["truth"] == {"seam": {"at_keyframes": 5, "between": 5}}
    assert (summary["pairs"], summary["moving_share"]) == (2, 0.5)
    nearest = summary["methods"]["nearest"]
    assert nearest["psnr"]["still"] is None
    # Errors of 10, 20, 30, 40 levels, each at twice the places of a pair's eight frames.
    assert nearest["psnr"]["moving"] == pytest.approx(10 * np.log10(255**2 / np.mean([100, 400, 900, 1600])))
    assert nearest["psnr"]["all"] == pytest.approx(nearest["psnr"]["moving"] + 10 * np.log10(2))
    assert nearest["seam"]["at_keyframes"] == 0
    assert summary["frame_psnr"]["nearest"][1][0] == pytest.approx(10 * np.log10(255**2 / 50))


def test_returned_keyframes_are_judged_apart_from_what_is_between(truth):
    made = truth.copy()
    made[::9] += 51
    of = scored(truth, other=made).summary()["methods"]["other"]
    assert of["keyframes_psnr"] == pytest.approx(20 * np.log10(5))
    assert of["psnr"]["all"] is None
    assert of["seam"]["at_keyframes"] == 5, "the seam is that to the true keyframe"


def test_pairs_across_a_cut_are_found_and_passed_over(truth):
    assert pairs_across([1, 9], 9, 2) == (0,)
    assert pairs_across([10, 18, 19], 9, 2) == (1,), "frame 19 is in no pair"
    assert pairs_across([5, 12], 9, 2) == (0, 1)
    made = truth.copy()
    made[10:18] = 0
    clips = {"black": source(made)}
    found = score_clip(source(truth), clips, pairs=2, stride=9, height=HEIGHT, width=WIDTH, across_cuts=(1,)).summary()
    assert (found["pairs"], found["pairs_across_cuts"], found["moving_share"]) == (2, [1], 0.5)
    assert found["methods"]["black"]["psnr"]["all"] is None, "what is behind the cut does not count"
    assert found["frame_psnr"]["nearest"][0][0] is not None
    assert found["frame_psnr"]["nearest"][1] == (None,) * 8


def test_other_sizes_are_resized(truth):
    large = np.repeat(np.repeat(truth, 2, 1), 2, 2)
    frames = next(iterate_windows(source(large), 1, 9, HEIGHT, WIDTH))
    assert frames.shape == (10, HEIGHT, WIDTH, 3)
    assert np.abs(frames[:, :, :8].astype(int) - truth[:10, :, :8]).max() <= 1


def test_windows_share_their_ends_and_are_read_once():
    frames = clips.ramp(19)
    windows = list(iterate_windows(source(frames), 2, 9, *frames.shape[1:3]))
    assert np.array_equal(windows[0], frames[:10])
    assert np.array_equal(windows[1], frames[9:])
    with pytest.raises(MediaError, match="clip: ended before frame 18, the last of pair 1"):
        list(iterate_windows(source(frames[:18], 19), 2, 9, *frames.shape[1:3]))


def test_how_many_pairs_there_are(truth):
    assert [count_pairs(source(truth[:frames]), 9) for frames in (10, 18, 19)] == [1, 1, 2]
    assert count_pairs(source(truth), 9, 1) == 1
    with pytest.raises(UsageError, match="clip: has 9 frames; to be evaluated it needs 10, two keyframes and the 8"):
        count_pairs(source(truth[:9]), 9)
    with pytest.raises(UsageError, match="clip: --num-frame-pairs 3: has 2 pairs; ask for 2 or fewer"):
        count_pairs(source(truth), 9, 3)


def test_what_another_tool_made_has_to_be_long_enough(truth):
    check_made(source(truth), "a.mp4", 9, 2)
    with pytest.raises(UsageError, match=r"--against a.mp4: has 18 frames; expected 19, with the keyframes at 0, 9"):
        check_made(source(truth[:18]), "a.mp4", 9, 2)
