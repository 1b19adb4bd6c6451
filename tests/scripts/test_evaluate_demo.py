"""The evaluation of the demo: which windows, what is measured, and going on where it stopped."""

import json

import numpy as np
import pytest

from scripts.demo_training.film import Split
from scripts.evaluate_demo import (
    OURS,
    TO_UNQUANTIZED,
    UNQUANTIZED,
    Window,
    choose_windows,
    edges_in_place,
    measure,
    read_lines,
    scores,
    sharpness,
    spread,
    summary,
)

WINDOWS = [Window("film 3", "film, motion 1 to 2", 0, 3), Window("scene 0", "rendered scenes", None, 0)]
ABOUT = {"num_steps": 2, "weights": "abc"}


def make(window):
    truth = np.full((10, 24, 32, 3), 100, np.uint8)
    truth[5:, :, 16:] = 140 if window.shot is None else 100
    return truth, {"ours": truth[1:9], "grey": np.full((8, 24, 32, 3), 110.0)}


def test_windows_are_of_as_many_shots_as_there_are():
    assert spread(np.arange(30), np.arange(30) // 10 * 10, 3) == [(5, 0), (15, 10), (25, 20)]
    assert {shot for _, shot in spread(np.arange(90), np.arange(90) // 10 * 10, 3)} == {0, 30, 60}
    two = spread(np.arange(30), np.arange(30) // 10 * 10, 5)
    assert len(set(two)) == 5
    assert two[:3] == [(5, 0), (15, 10), (25, 20)]


def test_every_class_and_the_scenes_are_there():
    held_out = np.arange(100)
    split = Split(held_out, held_out, ((0, 50), (50, 109)), np.where(held_out < 50, 0.2, 3.0))
    chosen = choose_windows(split, 2)
    assert [window.group for window in chosen] == [
        *["film, motion 0 to 0.5"] * 2,
        *["film, motion 2 to 4"] * 2,
        *["rendered scenes"] * 2,
    ]
    assert [window.shot for window in chosen] == [0, 0, 50, 50, None, None]


def test_ssim_of_the_truth_is_one_and_of_grey_less():
    pytest.importorskip("dm_pix")
    truth, made = make(WINDOWS[1])
    found = scores(made, truth)["ssim"]
    assert found["ours"] == pytest.approx((1, 1), abs=1e-5)
    whole, moving = found["grey"]
    assert moving is not None
    assert whole is not None
    assert moving < whole < 1
    assert moving < 0.95


def test_half_the_contrast_is_half_as_sharp():
    truth = np.zeros((8, 6, 6, 3), np.uint8)
    truth[:, :, 3:] = 100
    moving = np.zeros((6, 6), bool)
    moving[2, 2] = True
    assert sharpness(truth / 2, truth, moving) == (0.5, 0.5)
    truth[:, 2, 2:] = 0
    assert sharpness(truth, truth, moving) == (1, None)  # nothing is steep there
    assert sharpness(truth, np.zeros_like(truth), moving) == (None, None)


def test_edges_count_where_they_belong():
    """A soft edge counts in part, one elsewhere not at all; a blend of both has half, and is called as sharp."""
    truth, elsewhere = np.zeros((2, 8, 6, 8, 3), np.uint8)
    truth[:, :, 5:], elsewhere[:, :, 2:] = 100, 100
    everywhere = np.ones((6, 8), bool)
    assert edges_in_place(truth, truth, everywhere) == (1, 1)
    assert edges_in_place(truth / 4, truth, everywhere) == (0.25, 0.25)
    assert edges_in_place(elsewhere, truth, everywhere) == (0, 0)
    ghost = (truth / 2 + elsewhere / 2).astype(np.uint8)
    assert edges_in_place(ghost, truth, everywhere) == (0.5, 0.5)
    assert sharpness(ghost, truth, everywhere) == (1, 1)
    assert edges_in_place(truth, np.zeros_like(truth), everywhere) == (None, None)


def test_a_stopped_evaluation_goes_on(tmp_path):
    pytest.importorskip("dm_pix")
    lines, asked = tmp_path / "lines.jsonl", []

    def counted(window):
        asked.append(window.name)
        return make(window)

    assert measure(WINDOWS, lines, ABOUT, counted, -1) is None
    assert asked == []
    assert measure(WINDOWS[:1], lines, ABOUT, counted, 60) is not None
    with lines.open("a") as file:
        file.write('{"window": "scene 0", "num_s')
    found = measure(WINDOWS, lines, ABOUT, counted, 60)
    assert asked == ["film 3", "scene 0"]
    assert found is not None
    assert json.loads(json.dumps(found)) == list(read_lines(lines))
    assert measure(WINDOWS, lines, {**ABOUT, "weights": "others"}, counted, -1) is None
    assert [line["window"] for line in read_lines(lines)] == ["film 3", "scene 0"]
    table = summary(found)
    assert (table["shots"], table["scenes"]) == (1, 1)
    assert table["psnr"]["rendered scenes"]["grey"][0] > 15
    assert table["ssim"]["film, motion 1 to 2"]["grey"][1] is None  # nothing moves


def test_networks_without_quantisation_are_measured_beside(tmp_path):
    pytest.importorskip("dm_pix")

    def both(window):
        truth, made = make(window)
        return truth, {OURS: made["grey"], UNQUANTIZED: made["grey"] + (1 if window.shot is None else 0)}

    lines = measure(WINDOWS, tmp_path / "lines.jsonl", ABOUT, both, 60)
    assert lines is not None
    found = summary(lines)
    assert found[TO_UNQUANTIZED]["rendered scenes"][OURS][0] == pytest.approx(48.13, abs=0.01)
    assert found[TO_UNQUANTIZED]["film, motion 1 to 2"][OURS] == [None, None], "they are equal"
    assert found[f"least_{TO_UNQUANTIZED}"] == pytest.approx(48.13, abs=0.01)
