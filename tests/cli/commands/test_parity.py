"""`jax-interp parity` as a user runs it."""

import json
import os
import subprocess
import sys

import pytest

from jax_interp.components import TABLE
from jax_interp.errors import CheckpointError, ParityError, UsageError
from tests import golden
from tests.commands import jax_interp
from tests.parity.controls import copied, flip
from tests.parity.golden.recordings import recording

T5 = TABLE["text_encoder"].folder


def parity(converted, *arguments, checkpoints=golden.CHECKPOINTS):
    return jax_interp("parity", "--checkpoint-dir", checkpoints, "--converted", converted, *arguments)


def only_text(converted, *arguments, checkpoints=golden.CHECKPOINTS):
    return parity(converted, "--components", "text_encoder", *arguments, checkpoints=checkpoints)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_a_table_and_a_report(converted, tmp_path, torch):
    report = tmp_path / "out/report.json"
    outcome = only_text(converted, "face_blur", "--report", report)
    assert outcome.code == 0, outcome.output
    assert "text_encoder equal" in outcome.output
    assert "PEER_F32 0.0001, BF16_RATIO 1.5 held" in outcome.output
    assert "face_blur: not compared, neither folder has one" in outcome.output
    found = json.loads(report.read_text())
    assert (found["version"], found["held"], found["faults"]) == (1, True, [])
    assert found["networks"][0]["blocks"][1]["held"] is True
    assert found["converted"] == str(converted)
    refused = only_text(converted, "--report", report)
    assert refused.code == UsageError.exit_code
    assert "--report" in refused.output
    assert "pass --overwrite to replace it" in refused.output


def test_what_is_wrong_is_named_in_words_in_the_exit_code_and_in_the_report(converted, tmp_path, torch):
    flip(copied(converted, T5, tmp_path / "wrong"), "blocks/mlp/up/kernel")
    report = tmp_path / "report.json"
    outcome = only_text(tmp_path / "wrong", "--dtype", "float32", "--report", report)
    assert outcome.code == ParityError.exit_code == 9
    assert "NOT HELD" in outcome.output
    assert "text_encoder, block 1: 1 value(s) of mlp/up/kernel are not the checkpoint's" in outcome.output
    found = json.loads(report.read_text())
    assert found["held"] is False
    assert found["networks"][0]["weights"]["differences"][0]["block"] == "block 1"


def test_steps_for_programs(converted, torch):
    outcome = only_text(converted, "--dtype", "float32", "--progress", "json")
    assert outcome.code == 0, outcome.output
    assert '"label": "text_encoder: comparing weights", "done": 27, "total": 27, "unit": "steps"' in outcome.output
    assert '"label": "text_encoder: running both sides in float32", "done": 3, "total": 3' in outcome.output


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--components", "t6"), UsageError, "--components: unknown t6; there are diffusion_transformer, tokenizer,"),
        (("--components", "face_blur"), CheckpointError, "nothing to compare (face_blur: neither folder has one)"),
        (("--seed", -1), UsageError, "--seed is -1; expected a whole number from 0 to 4294967295"),
        (("--golden", "nowhere"), CheckpointError, "--golden nowhere: no recorded outputs"),
    ],
)
def test_bad_input(converted, torch, arguments, error, message):
    outcome = (
        parity(converted, *arguments)
        if "--golden" not in arguments
        else jax_interp("parity", "--converted", converted, *arguments)
    )
    assert outcome.code == error.exit_code
    assert message in outcome.output


def test_a_recording_without_anything_to_replay_is_an_error(converted, tmp_path, torch):
    outcome = jax_interp("parity", "--converted", converted, "--golden", recording(tmp_path / "recorded", "L3_sampler"))
    assert outcome.code == CheckpointError.exit_code
    assert "has nothing to replay in float32 or bfloat16 (L3_sampler.npz: the sampler on formulas" in outcome.output


def test_a_gpu_that_is_not_there(converted, torch, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = parity(converted, "--device", "cuda")
    assert outcome.code == UsageError.exit_code
    assert "torch finds no GPU" in outcome.output


def test_folders_that_are_not_there_or_damaged(converted, tmp_path, torch):
    outcome = parity(tmp_path / "nowhere")
    assert outcome.code == CheckpointError.exit_code
    assert "nowhere: no such folder; name one with --converted" in outcome.output
    outcome = parity(converted, checkpoints=tmp_path / "nowhere")
    assert outcome.code == CheckpointError.exit_code
    assert "nowhere: no such folder; name one with --checkpoint-dir" in outcome.output
    (copied(converted, T5, tmp_path / "cut") / "manifest.json").write_text("{")
    outcome = parity(tmp_path / "cut")
    assert outcome.code == CheckpointError.exit_code
    assert "manifest.json: damaged" in outcome.output


def test_the_report_replaces_no_file_that_is_read(converted, torch):
    path = golden.CHECKPOINTS / T5 / "config.json"
    outcome = only_text(converted, "--report", path, "--overwrite")
    assert outcome.code == UsageError.exit_code
    assert "--report" in outcome.output
    assert path.read_text().startswith("{")


@pytest.mark.slow
def test_without_pytorch_the_help_is_there_and_the_command_says_what_to_install(converted):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    source = (
        "import sys; from tests.without_parity import hide_the_extra; hide_the_extra(); "
        "from jax_interp.__main__ import main; sys.argv[0] = 'jax-interp'; main()"
    )

    def run(*arguments):
        command = [sys.executable, "-c", source, "parity", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    shown = run("--help")
    assert shown.returncode == 0, shown.stderr
    assert "--golden" in shown.stdout
    outcome = run("--checkpoint-dir", golden.CHECKPOINTS, "--converted", converted)
    assert outcome.returncode == UsageError.exit_code
    assert 'parity needs torch and accelerate and diffusers: pip install -e ".[parity]"' in outcome.stderr
