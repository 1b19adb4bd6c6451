"""`jax-interp evaluate` as a user runs it, on tiny networks."""

import json

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.evaluation.compare import page
from jax_interp.media.reader import open_frames
from tests import golden
from tests.commands import jax_interp
from tests.media import film_clips
from tests.media.clips import encode, names, waves

SIZE = ("--height", 64, "--width", 96)


@pytest.fixture
def clip(tmp_path):
    return encode(tmp_path / "clip.mp4", waves(20, 64, 96), options={"crf": "0"})


@pytest.fixture
def evaluate(tmp_path):
    return lambda *arguments: jax_interp("evaluate", *SIZE, "--output-dir", tmp_path / "report", *arguments)


def report(tmp_path):
    return json.loads((tmp_path / "report/report.json").read_text())


@pytest.mark.slow
def test_generated_frames_are_scored_beside_simple_ones_and_those_of_others(evaluate, converted, clip, tmp_path):
    """Generates; without it only the scoring of what is there already is tested."""
    other = encode(tmp_path / "rife.mp4", waves(19, 64, 96), options={"crf": "30"})
    tiny = ("--checkpoint-dir", converted, "--disable-guardrail", "--num-steps", 1, "--dtype", "float32")
    outcome = evaluate(clip, "--against", other, *tiny)
    assert outcome.code == 0, outcome.output
    found = report(tmp_path)
    [scores] = found["clips"]
    assert (found["version"], scores["pairs"], scores["keyframe_stride"]) == (1, 2, 9)
    assert list(scores["methods"]) == ["jax-interp", "rife", "nearest", "blend", "truth"]
    ours, rife = scores["methods"]["jax-interp"], scores["methods"]["rife"]
    assert ours["psnr"]["all"] < 30 < rife["psnr"]["all"]
    assert ours["keyframes_psnr"] < 40
    assert {"clip.mkv", "clip.json", "clip.html", "plot.png", "report.json"} <= set(names(tmp_path / "report"))
    assert open_frames([tmp_path / "report/clip.mkv"]).num_frames == 19
    assert iio.imread(tmp_path / "report/plot.png").shape[1] > 1000
    for words in ("clip jax-interp", "clip rife", "clip nearest", "clip blend", "clip truth", "PSNR moving still"):
        assert words in outcome.output
    made = (tmp_path / "report/clip.mkv").stat().st_ino
    refused = evaluate(clip, *tiny)
    assert refused.code == UsageError.exit_code
    assert "report.json: is there already; choose another name, or pass --overwrite" in refused.output
    again = evaluate(clip, "--overwrite", *tiny)
    assert again.code == 0, again.output
    assert "already there, made with these settings" in again.output
    assert (tmp_path / "report/clip.mkv").stat().st_ino == made
    assert report(tmp_path)["clips"][0]["methods"]["jax-interp"] == ours


@pytest.mark.slow
def test_without_networks_and_with_keyframes_for_other_tools(evaluate, clip, tmp_path):
    outcome = evaluate(clip, "--skip-generation", "--save-keyframes", tmp_path / "keys", "--progress", "json")
    assert outcome.code == 0, outcome.output
    assert names(tmp_path / "keys") == ["00000.png", "00001.png", "00002.png"]
    assert np.array_equal(iio.imread(tmp_path / "keys/00001.png"), list(open_frames([clip]))[9])
    assert list(report(tmp_path)["clips"][0]["methods"]) == ["nearest", "blend", "truth"]
    assert '"event": "progress", "label": "scoring clip", "done": 2' in outcome.output


@pytest.fixture
def cut_clip(tmp_path):
    """Three pairs, of which the second lies across a cut."""
    return encode(tmp_path / "cut.mp4", film_clips.with_cut(28, 12, 64, 96), options={"crf": "0"})


def test_a_pair_across_a_cut_is_left_out(evaluate, cut_clip, tmp_path):
    outcome = evaluate(cut_clip, "--skip-generation")
    assert outcome.code == 0, outcome.output
    assert "1 of 3 pairs lie across scene cuts and are left out" in outcome.output
    [found] = report(tmp_path)["clips"]
    assert (found["scene_cuts"], found["pairs"], found["pairs_across_cuts"]) == ([12], 3, [1])
    every = evaluate(cut_clip, "--skip-generation", "--overwrite", "--scene-cuts", "off")
    assert every.code == 0, every.output
    [all_pairs] = report(tmp_path)["clips"]
    assert (all_pairs["scene_cuts"], all_pairs["pairs_across_cuts"]) == ([], [])
    assert all_pairs["methods"]["blend"]["psnr"]["all"] < found["methods"]["blend"]["psnr"]["all"]


def test_cuts_of_a_file_that_leave_nothing_are_refused(evaluate, cut_clip, tmp_path):
    cuts = tmp_path / "cuts.txt"
    for text, message in (
        ("3\n12\n20\n", "cut.mp4: every pair lies across a scene cut; --scene-cuts off scores them all the same"),
        ("28\n", "--scene-cuts: frame 28 begins no scene of an input of 28 frames"),
        ("soon\n", "cuts.txt: line 1: 'soon' is no frame number"),
    ):
        cuts.write_text(text)
        outcome = evaluate(cut_clip, "--skip-generation", "--scene-cuts", cuts)
        assert outcome.code == UsageError.exit_code
        assert message in outcome.output
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_nothing_is_generated_across_a_cut(evaluate, converted, cut_clip, tmp_path):
    tiny = ("--checkpoint-dir", converted, "--disable-guardrail", "--num-steps", 1, "--dtype", "float32")
    outcome = evaluate(cut_clip, *tiny)
    assert outcome.code == 0, outcome.output
    record = json.loads((tmp_path / "report/cut.json").read_text())
    assert (record["pairs"], record["frames"]) == (2, 28)
    made = list(open_frames([tmp_path / "report/cut.mkv"]))
    assert all(np.array_equal(made[9], frame) for frame in made[10:18]), "the frame before the cut is held"


def test_a_page_that_would_be_too_large_is_left_out_and_the_scores_stay(evaluate, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 20_000)
    outcome = evaluate(clip, "--skip-generation")
    assert outcome.code == 0, outcome.output
    assert "WARNING" in outcome.output
    assert "clip.html: would be about" in outcome.output
    assert "it is left out, and jax-interp compare makes one of a part" in outcome.output
    assert names(tmp_path / "report") == ["plot.png", "report.json"]


def test_a_folder_of_videos_and_one_of_pictures(evaluate, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a", "b"):
        encode(folder / f"{name}.mp4", waves(10, 64, 96))
    assert evaluate(folder, "--skip-generation").code == 0
    assert [each["clip"] for each in report(tmp_path)["clips"]] == [str(folder / "a.mp4"), str(folder / "b.mp4")]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, frame in enumerate(waves(10, 64, 96)):
        iio.imwrite(pictures / f"{index}.png", frame)
    assert evaluate(pictures, "--skip-generation", "--overwrite").code == 0
    assert [each["pairs"] for each in report(tmp_path)["clips"]] == [1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("nowhere.mp4",), MediaError, "nowhere.mp4: no such file"),
        ((golden.CLIP, "--num-frame-pairs", 0), UsageError, "--num-frame-pairs 0: must be at least 1"),
        ((golden.CLIP,), UsageError, "clip.mp4: has 4 frames; to be evaluated it needs 10"),
        ((golden.CLIP, "--num-video-frames", 2), UsageError, "there is no frame between the keyframes"),
        ((golden.CLIP, "--against", "blend.mp4"), UsageError, "the name blend would be there twice"),
        ((golden.CLIP, "--height", 0), UsageError, "--height 0"),
    ],
)
def test_what_cannot_work_is_refused(evaluate, tmp_path, arguments, error, message):
    outcome = evaluate("--skip-generation", *arguments)
    assert outcome.code == error.exit_code, outcome.output
    assert message in outcome.output
    assert not (tmp_path / "report").exists()


def test_too_short_an_output_of_another_tool(evaluate, clip, tmp_path):
    other = encode(tmp_path / "rife.mp4", waves(10, 64, 96))
    outcome = evaluate(clip, "--skip-generation", "--against", other)
    assert outcome.code == UsageError.exit_code
    assert "--against rife: has 10 frames; expected 19" in outcome.output


def test_what_is_not_installed_is_named(evaluate, clip, monkeypatch):
    monkeypatch.setattr("jax_interp.cli.runs.evaluate.find_spec", lambda name: None)
    outcome = evaluate(clip, "--skip-generation")
    assert outcome.code == UsageError.exit_code
    assert "evaluate needs dm_pix and matplotlib" in outcome.output
    assert 'pip install -e ".[evaluate]"' in outcome.output
