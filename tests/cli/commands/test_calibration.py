"""`jax-interp convert --calibrate` and what other commands say about the folder that it makes."""

import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from jax_interp.errors import MediaError
from jax_interp.pipeline.calibration import calibrator
from tests import golden
from tests.cli.commands.test_quantization import bare_machine, generate, parameters, refused
from tests.commands import jax_interp
from tests.convert.checkpoints import DIT, T5, TOKENIZER

__all__ = ["bare_machine"]
SIZE = ("--height", 64, "--width", 96)


def calibrated(target, clip, *arguments):
    return jax_interp(
        *("convert", "--checkpoint-dir", golden.CHECKPOINTS, "--output-dir", target),
        *("--calibrate", clip, *arguments),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The golden checkpoints, calibrated on the golden clip."""
    target = tmp_path_factory.mktemp("calibrated") / "converted"
    outcome = calibrated(target, golden.CLIP, "--quantization", "int8", *SIZE)
    assert outcome.code == 0, outcome.output
    return target


@pytest.mark.slow
def test_a_clip_is_made_from_end_to_end(folder, tmp_path):
    report = json.loads((folder / DIT / "calibration.json").read_text())
    assert (report["text"], report["windows"], report["height"], report["width"]) == ("negative prompt", 1, 64, 96)
    assert len(report["products"]) == 3 * 6
    for product in report["products"]:
        assert product["bfloat16"] < product["smoothed"] <= product["int8"] < 0.02  # there are no large channels
    outcome = generate(folder, tmp_path)
    assert outcome.code == 0, outcome.output
    [record] = tmp_path.glob("*.json")
    facts = json.loads(record.read_text())["networks"]["diffusion_transformer"]
    assert facts["quantization"] == "int8-smoothed"
    assert facts["calibration"]["clip_sha256"] == report["clip_sha256"]
    refused(
        generate(folder, tmp_path, "--quantization", "int8"), "stored in int8-smoothed, from which the weights cann"
    )
    refused(
        jax_interp("export", "--converted-dir", folder, "--output-dir", tmp_path / "out"),
        "stored in int8-smoothed, from which it cannot be exported",
    )
    again = calibrated(folder, golden.CLIP, "--quantization", "int8", *SIZE)
    assert again.code == 0
    assert f"{DIT}: converted already" in again.output
    other = calibrated(folder, golden.CLIP, "--quantization", "int8", "--height", 32, "--width", 96)
    assert other.code != 0
    assert "converted already, but with calibration on clip.mp4 at 64×96" in other.output


@pytest.mark.slow
def test_calibrating_twice_gives_the_same_factors(folder, tmp_path):
    outcome = calibrated(tmp_path, golden.CLIP, "--quantization", "int8-smoothed", *SIZE)
    assert outcome.code == 0, outcome.output
    for name in ("calibration.json", "calibration.safetensors", "config.json"):
        assert (tmp_path / DIT / name).read_bytes() == (folder / DIT / name).read_bytes()


def test_inspect_shows_a_row_for_every_product(smoothed_folder):
    output = jax_interp("inspect", smoothed_folder / DIT).output
    assert "diffusion_transformer, converted, in int8-smoothed" in output
    assert "calibration on clip.mp4 at 64×96: 1 window(s) at 2 noise levels, text: negative prompt" in output
    assert "largest error: 1.25 %, " in output
    assert "block product largest/median strength int8 smoothed bfloat16" in output
    for block in range(3):
        for product in ("self_attention/qkv", "mlp/down"):
            assert re.search(rf"\b{block} {product} 8.0 0.5 25.00 % 1.25 % 0.20 %", output)


def test_inspect_says_what_is_damaged(smoothed_folder, tmp_path):
    copy = shutil.copytree(smoothed_folder / DIT, tmp_path / DIT)
    (copy / "calibration.json").write_text("{}")
    output = jax_interp("inspect", copy).output
    assert "NOT USABLE" in output
    assert "calibration.json has 2 bytes, expected" in output


def nothing_is_left(target):
    return not target.exists() or not list(target.iterdir())


def test_clips_that_cannot_be_calibrated_on(tmp_path):
    target = tmp_path / "out"
    (tmp_path / "notes.mp4").write_text("no video at all")
    (tmp_path / "pictures").mkdir()
    for name in ("one.png", "pictures/1.png", "pictures/2.png"):
        Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / name)
    for clip, said in (
        (tmp_path / "missing.mp4", "missing.mp4: .*no such file"),
        (tmp_path / "pictures", "give one video"),
        (tmp_path / "notes.mp4", "notes.mp4: "),
        (tmp_path / "one.png", "one.png: one picture; interpolation needs at least two frames"),
    ):
        outcome = calibrated(target, clip, "--quantization", "int8", *SIZE)
        assert outcome.code == MediaError.exit_code, outcome.output
        assert re.search(said, outcome.output), outcome.output
        assert nothing_is_left(target)


def test_what_does_not_go_with_a_calibration(tmp_path):
    target = tmp_path / "out"
    for arguments, said in (
        (SIZE, "--calibrate: is for --quantization int8, not none"),
        (("--quantization", "int8-rotated"), "--calibrate: is for --quantization int8, not int8-rotated"),
        (
            ("--quantization", "int8", "--components", "text_encoder"),
            "--calibrate: of text_encoder none has a calibration, which only transformers have",
        ),
        (
            ("--quantization", "int8", "--components", "diffusion_transformer"),
            "--calibrate: needs the tokenizer, which is neither converted",
        ),
        (
            ("--quantization", "int8"),
            r"--calibrate: --height 704 \(the default\): these networks take a mul",
        ),
        (("--quantization", "int8", "--height", 60, "--width", 96), "--calibrate: --height 60: expected a multiple"),
    ):
        refused(calibrated(target, golden.CLIP, *arguments), said)
        assert nothing_is_left(target)
    arguments = ("--checkpoint-dir", golden.CHECKPOINTS, "--output-dir", target, "--quantization", "int8-smoothed")
    refused(jax_interp("convert", *arguments), "--quantization int8-smoothed: needs a calibration; pass")
    assert nothing_is_left(target)


def test_an_ordinary_folder_is_not_smoothed_at_load(converted, tmp_path):
    refused(
        generate(converted, tmp_path, "--quantization", "int8-smoothed"),
        "converted without a calibration, which --quantization int8-smoothed needs; make another folder with .*--calib",
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def heard():
    """A shell ignores Ctrl-C in what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("heard")
def test_an_interrupted_calibration_leaves_what_is_complete(tmp_path, monkeypatch):
    """Ctrl-C while the first product is looked at ends the run when its part of a block is done."""
    choose, seen = calibrator.choose_factors, []

    def interrupting(*arguments):
        if not seen:
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(arguments)
        return choose(*arguments)

    monkeypatch.setattr(calibrator, "choose_factors", interrupting)
    outcome = calibrated(tmp_path, golden.CLIP, "--quantization", "int8", *SIZE)
    assert outcome.code == 130
    assert "stopped: what was not complete is removed; run the same command again to go on" in outcome.output
    assert 0 < len(seen) < 3 * 6
    assert {path.name for path in tmp_path.iterdir()} == {TOKENIZER, "google-t5"}


@pytest.mark.slow
def test_memory_counts_as_much_as_in_int8(bare_machine):
    plain, ours = (
        jax_interp("memory", "--model", "7B", "--quantization", kind).output for kind in ("int8", "int8-smoothed")
    )
    assert parameters(ours, "diffusion_transformer")[0] == "int8-smoothed"
    expected = parameters(plain, "diffusion_transformer")[1]
    assert parameters(ours, "diffusion_transformer")[1] == pytest.approx(expected, abs=0.01)
    assert parameters(ours, "text_encoder") == parameters(plain, "text_encoder")


def test_folders_of_other_networks_have_no_files_of_a_calibration(smoothed_folder):
    for name in (TOKENIZER, T5):
        assert not list((smoothed_folder / name).glob("calibration*"))
