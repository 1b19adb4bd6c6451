"""`jax-interp video2world` as a user runs it."""

import json

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.errors import UsageError
from jax_interp.media.reader import open_frames
from tests import golden
from tests.commands import jax_interp
from tests.golden import VIDEO2WORLD

SIZE = ("--height", 48, "--width", 64, "--num-steps", 1, "--num-video-frames", 9, "--dtype", "float32")
IMAGE, CLIP, RGBA = (VIDEO2WORLD / "inputs" / name for name in ("image.png", "clip.mp4", "image_rgba.png"))


@pytest.fixture
def continued(converted_world, tmp_path):
    def run(*arguments, size=SIZE):
        folders = ("--checkpoint-dir", converted_world, "--video-save-folder", tmp_path / "out")
        return jax_interp("video2world", "--disable-guardrail", *folders, *size, *arguments)

    return run


def record(tmp_path, name="output"):
    return json.loads((tmp_path / "out" / f"{name}.json").read_text())


@pytest.mark.slow
def test_a_picture_is_continued_and_the_record_says_how(continued, worlds, tmp_path):
    outcome = continued("--input", IMAGE, "--prompt", "rain", "--save-frames", tmp_path / "frames")
    assert outcome.code == 0, outcome.output
    assert "9 frames from 1 given frame(s)" in outcome.output
    assert (tmp_path / "out" / "output.txt").read_text() == "rain\n"
    said = record(tmp_path)
    settings = {name: said["settings"][name] for name in ("guidance", "seed", "num_input_frames", "num_video_frames")}
    assert settings == {"guidance": 7.0, "seed": 1, "num_input_frames": 1, "num_video_frames": 9}
    assert said["networks"]["diffusion_transformer"]["folder"] == "Cosmos-Predict1-7B-Video2World"
    frames = np.stack([iio.imread(path) for path in sorted((tmp_path / "frames").iterdir())])
    given = golden.load("inputs", VIDEO2WORLD)["image"]
    expected = worlds["float32"].generate(given, "rain", num_steps=1, num_video_frames=9, height=48, width=64)
    assert np.array_equal(frames, expected.frames)
    assert open_frames([tmp_path / "out" / "output.mp4"]).num_frames == 9


@pytest.mark.slow
def test_the_result_is_encoded_as_asked_and_progress_comes_as_events(continued, worlds, tmp_path):
    options = ("--codec", "ffv1", "--fps", "23.976", "--progress", "json")
    outcome = continued("--input", IMAGE, "--prompt", "rain", *options)
    assert outcome.code == 0, outcome.output
    assert '"frames": 9, "pairs": 1}' in outcome.output
    said = record(tmp_path)
    assert (said["output"]["codec"], said["output"]["fps"], said["timeline"]) == ("ffv1", "24000/1001", None)
    made = open_frames([tmp_path / "out" / "output.mkv"])
    given = golden.load("inputs", VIDEO2WORLD)["image"]
    expected = worlds["float32"].generate(
        given, "rain", num_steps=1, num_video_frames=9, height=48, width=64, fps=23.976
    )
    assert made.num_frames == 9
    assert np.array_equal(np.stack(list(made)), expected.frames)


@pytest.mark.slow
def test_upstreams_spellings_and_nine_frames(continued, tmp_path):
    outcome = continued(
        *("--input_image_or_video_path", CLIP, "--num_input_frames", 9, "--prompt", "rain", "--offload_tokenizer"),
        *("--disable_prompt_upsampler", "--num_video_frames", 17),
    )
    assert outcome.code == 0, outcome.output
    assert record(tmp_path)["frames"] == 17


@pytest.mark.slow
def test_a_batch_goes_on_with_what_is_not_done(continued, tmp_path):
    lines = [{"visual_input": str(IMAGE), "prompt": "rain", "name": "a"}, {"visual_input": str(CLIP), "prompt": "sun"}]
    batch = tmp_path / "batch.jsonl"
    batch.write_text("\n".join(json.dumps(line) for line in lines))
    outcome = continued("--batch-input-path", batch)
    assert outcome.code == 0, outcome.output
    made = (tmp_path / "out" / "a.mp4").stat().st_mtime_ns
    (tmp_path / "out" / "output_0001.mp4").unlink()
    outcome = continued("--batch-input-path", batch)
    assert "a.mp4: already there" in outcome.output
    assert (tmp_path / "out" / "a.mp4").stat().st_mtime_ns == made
    assert (tmp_path / "out" / "output_0001.mp4").exists()


@pytest.mark.slow
def test_what_is_transparent_is_laid_over_white(continued, worlds, tmp_path):
    outcome = continued("--input", RGBA, "--prompt", "rain", "--save-frames", tmp_path / "frames")
    assert "laid over white" in outcome.output
    given = golden.load("inputs", VIDEO2WORLD)["image_rgba"]
    expected = worlds["float32"].generate(given, "rain", num_steps=1, num_video_frames=9, height=48, width=64)
    assert np.array_equal(iio.imread(sorted((tmp_path / "frames").iterdir())[0]), expected.frames[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", IMAGE), "no --prompt, and"),
        (("--input", IMAGE, "--disable-prompt-upsampler"), "--guidance 7 without a prompt"),
        (("--input", IMAGE, "--prompt", "rain", "--num-video-frames", 12), "--num-video-frames 12: allowed are 9, 17"),
        (("--input", IMAGE, "--prompt", "rain", "--num-input-frames", 9), "the input has 1 frame(s)"),
        (("--input", CLIP, "--prompt", "rain", "--num-input-frames", 2), "--num-input-frames is 2; expected 1 or 9"),
        (("--input", IMAGE, "--prompt", "rain", "--height", 8), "--height 8: expected a multiple of 16"),
        (("--prompt", "rain"), "give either --input"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(continued, tmp_path, arguments, message):
    outcome = continued(*arguments)
    assert outcome.code != 0
    assert message in outcome.output
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_picture_that_is_too_small(continued, tmp_path):
    iio.imwrite(tmp_path / "tiny.png", np.zeros((8, 40, 3), np.uint8))
    outcome = continued("--input", tmp_path / "tiny.png", "--prompt", "rain")
    assert outcome.code != 0
    assert "too small" in outcome.output


@pytest.mark.parametrize("report", [(), ("--quiet",), ("--progress", "json")])
def test_why_a_clip_of_a_batch_failed_is_always_said(continued, tmp_path, report):
    iio.imwrite(tmp_path / "tiny.png", np.zeros((8, 40, 3), np.uint8))
    batch = tmp_path / "batch.jsonl"
    batch.write_text(json.dumps({"visual_input": str(tmp_path / "tiny.png"), "prompt": "rain", "name": "bad"}))
    outcome = continued("--batch-input-path", batch, *report)
    assert outcome.code != 0
    assert outcome.output.count("bad.mp4: the input is 8") == 1


def test_the_clips_of_a_batch_that_lack_a_prompt_are_named(continued, tmp_path):
    texts = {"x": "", "y": "rain", "z": ""}
    lines = [{"visual_input": str(IMAGE), "prompt": text, "name": name} for name, text in texts.items()]
    batch = tmp_path / "batch.jsonl"
    batch.write_text("\n".join(json.dumps(line) for line in lines))
    outcome = continued("--batch-input-path", batch)
    assert outcome.code == UsageError.exit_code
    assert "x.mp4, z.mp4: --guidance 7 without a prompt" in outcome.output


def test_the_interpolators_weights_are_refused_and_the_reverse(converted, converted_world, tmp_path):
    common = ("--disable-guardrail", "--prompt", "rain", "--video-save-folder", tmp_path / "out")
    outcome = jax_interp("video2world", "--checkpoint-dir", converted, "--input", IMAGE, *common)
    assert outcome.code != 0
    assert "is a WorldInterpolator transformer, expected a Video2World one" in outcome.output
    outcome = jax_interp("generate", "--checkpoint-dir", converted_world, "--input", CLIP, *common)
    assert outcome.code != 0
    assert "is a Video2World transformer, expected a WorldInterpolator one" in outcome.output


def test_guardrails_that_are_not_there_block(converted_world, tmp_path):
    outcome = jax_interp(
        *("video2world", "--checkpoint-dir", converted_world, "--input", IMAGE, "--prompt", "rain"),
        *("--video-save-folder", tmp_path / "out", *SIZE),
    )
    assert outcome.code != 0
    assert "guardrail" in outcome.output
    assert not (tmp_path / "out" / "output.mp4").exists()


@pytest.mark.slow
def test_a_run_that_was_interrupted_while_writing_does_not_sample_again(continued, worlds, tmp_path, monkeypatch):
    """What was made is kept beside the video until all results are there; the same command only writes it."""
    from jax_interp.media.writer import TeeWriter
    from jax_interp.pipeline.stages.euler_sampler import EulerSampler

    def fail(*_):
        raise OSError(28, "No space left on device")

    command = ("--input", IMAGE, "--prompt", "rain")
    with monkeypatch.context() as patched:
        patched.setattr(TeeWriter, "write", fail)
        assert continued(*command).code != 0
    assert not (tmp_path / "out" / "output.mp4").exists()
    monkeypatch.setattr(EulerSampler, "sample", fail)
    outcome = continued(*command)
    assert outcome.code == 0, outcome.output
    assert record(tmp_path)["frames"] == 9


@pytest.mark.slow
def test_memory_of_a_clip_is_planned(converted_world):
    outcome = jax_interp("memory", "--video2world", "--checkpoint-dir", converted_world, "--height", 48, "--width", 64)
    assert outcome.code == 0, outcome.output
    assert "48×64, 121 frames a clip" in outcome.output
    assert "all streamed, 1 a pass" in outcome.output
    assert "2 a pass" not in outcome.output


@pytest.mark.slow
def test_memory_of_the_released_networks(converted):
    outcome = jax_interp("memory", "--video2world", "--model", "14B", "--memory-budget", "10GiB")
    assert outcome.code == 0, outcome.output
    assert "in 10.0 GiB of GPU memory" in outcome.output
    refused = jax_interp("memory", "--video2world", "--checkpoint-dir", converted)
    assert "is a WorldInterpolator transformer" in refused.output
    assert (
        "--num-video-frames 10: allowed are 9, 17"
        in jax_interp("memory", "--video2world", "--model", "7B", "--num-video-frames", 10).output
    )
