"""`jax-interp convert` as a user runs it, mostly on what cannot be converted."""

import os
import shutil

import ml_dtypes
import numpy as np
import pytest

from convert.networks.components import COMPONENTS
from jax_interp.errors import CheckpointError, JaxInterpError, UsageError
from jax_interp.runtime.checkpoint.finding import find_component
from tests import golden
from tests.commands import jax_interp
from tests.convert.archives import Call, write_archive
from tests.convert.checkpoints import DIT, T5, TOKENIZER, copy_golden, write_dit

KEY = "net.blocks.block1.blocks.2.block.layer1.weight"


@pytest.fixture
def convert(tmp_path):
    """Run the command on a folder; output goes to `converted` in the test's folder."""

    def run(source, *arguments):
        return jax_interp("convert", "--checkpoint-dir", source, "--output-dir", tmp_path / "converted", *arguments)

    return run


def assert_refused(outcome, *texts, error: type[JaxInterpError] = CheckpointError):
    assert outcome.code == error.exit_code
    assert outcome.output.startswith("error: ")
    assert "Traceback" not in outcome.output
    for text in texts:
        assert text in outcome.output, text


def test_everything_that_is_there_is_converted(converted):
    folders = [
        folder.relative_to(converted).as_posix() for folder in (converted / DIT, converted / TOKENIZER, converted / T5)
    ]
    for component, folder in zip(("diffusion_transformer", "tokenizer", "text_encoder"), folders, strict=True):
        assert find_component(converted, component).path == converted / folder


def test_options_in_upstreams_spelling_and_several_components(tmp_path):
    outcome = jax_interp(
        "convert", "--checkpoint_dir", golden.CHECKPOINTS, "--output_dir", tmp_path / "out",
        "--components", "text_encoder", "diffusion_transformer", "--diffusion_transformer_dir", DIT,
        "--dtype", "float32", "--no-check-md5",
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    assert "published" not in outcome.output
    assert find_component(tmp_path / "out", "diffusion_transformer").dtype == "float32"
    assert find_component(tmp_path / "out", "text_encoder").dtype == "float32"
    assert not (tmp_path / "out" / TOKENIZER).exists()


def test_the_help_names_every_component_its_flag_and_its_folder(monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    output = jax_interp("convert", "--help").output.replace("- ", "-")  # lines break behind dashes, too
    for name, component in COMPONENTS.items():
        assert f"{name}," in output or f"{name}." in output
        assert f"{component.flag} " in output
        assert f"[default: ({component.folder})]" in output


def test_a_component_may_be_spelled_with_a_dash(tmp_path):
    arguments = ("--output-dir", tmp_path / "out", "--no-check-md5")
    outcome = jax_interp("convert", "--checkpoint-dir", golden.CHECKPOINTS, *arguments, "--components", "text-encoder")
    assert outcome.code == 0, outcome.output
    assert find_component(tmp_path / "out", "text_encoder")
    (tmp_path / "empty").mkdir()
    outcome = jax_interp("convert", "--checkpoint-dir", tmp_path / "empty", *arguments, "--components", "text-encoder")
    assert_refused(outcome, "text_encoder lacks model.safetensors")


def test_running_again_does_nothing(convert, tmp_path):
    source = write_dit(tmp_path / "checkpoints")
    assert "is not the published file" not in convert(source).output
    outcome = convert(source)
    assert outcome.code == 0
    assert "converted already" in outcome.output
    assert_refused(convert(source, "--dtype", "float32"), "--overwrite")
    assert convert(source, "--dtype", "float32", "--overwrite").code == 0


def test_self_made_weights_are_said_to_be(convert, tmp_path):
    outcome = convert(copy_golden(tmp_path / "checkpoints", DIT))
    assert outcome.code == 0
    assert f"{DIT}/model.pt is not the published file" in outcome.output


def test_wrong_md5(convert, tmp_path):
    outcome = convert(copy_golden(tmp_path / "checkpoints", DIT), "--check-md5")
    assert_refused(outcome, "model.pt has md5", "48a0bdc99d5e41eee05ba8597c4851da", "download it again")
    assert not (tmp_path / "converted").exists()


def test_truncated_archive(convert, tmp_path):
    source = copy_golden(tmp_path / "checkpoints", DIT)
    path = source / DIT / "model.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    assert_refused(convert(source), str(path), "download it again")
    assert not (tmp_path / "converted").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({KEY: None}, f"missing keys (1): {KEY}"),
        ({"net.extra.weight": np.zeros(3, np.float32)}, "keys that no rule knows (1): net.extra.weight: float32 (3,)"),
        ({KEY: np.zeros((512, 64), ml_dtypes.bfloat16)}, f"{KEY}: bfloat16 (512, 64), expected (512, 128)"),
    ],
    ids=["missing", "extra", "shape"],
)
def test_keys_that_do_not_fit(convert, tmp_path, changes, text):
    source = write_dit(tmp_path / "checkpoints", changes)
    assert_refused(convert(source), "model.safetensors", text)
    assert not (tmp_path / "converted").exists()


def test_a_pickle_that_runs_a_command_is_refused_and_runs_nothing(convert, tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "checkpoints" / DIT).mkdir(parents=True)
    archive = tmp_path / "checkpoints" / DIT / "model.pt"
    write_archive(archive, {"net.x": Call(os.system, (f"touch {marker}",))})
    assert_refused(convert(tmp_path / "checkpoints"), str(archive), "system")
    assert not marker.exists()
    assert not (tmp_path / "converted").exists()


def test_disk_full(convert, tmp_path, monkeypatch):
    def full(path, params):
        path.mkdir()
        (path / "half").write_bytes(b"half")
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

    monkeypatch.setattr("convert.storing.write_params", full)
    assert_refused(convert(write_dit(tmp_path / "checkpoints")), "the disk is full", "Free some space")
    assert not (tmp_path / "converted").exists()


def test_an_interruption_leaves_what_is_done(convert, tmp_path, monkeypatch):
    def interrupt(path, params):
        raise KeyboardInterrupt

    source = copy_golden(tmp_path / "checkpoints", T5)
    assert convert(source).code == 0
    copy_golden(source, DIT)
    with monkeypatch.context() as patched:
        patched.setattr("convert.storing.write_params", interrupt)
        outcome = convert(source)
    assert outcome.code == 130
    assert [path.name for path in (tmp_path / "converted").iterdir()] == ["google-t5"]
    outcome = convert(source)
    assert outcome.code == 0
    assert "t5-11b: converted already" in outcome.output
    assert find_component(tmp_path / "converted", "diffusion_transformer")


def test_a_half_converted_folder(convert, tmp_path):
    source = write_dit(tmp_path / "checkpoints")
    convert(source)
    shutil.rmtree(tmp_path / "converted" / DIT / "params")
    assert_refused(convert(source), "incomplete", "--overwrite")
    assert convert(source, "--overwrite").code == 0


def test_absent_and_unknown_networks(convert, tmp_path):
    source = write_dit(tmp_path / "checkpoints")
    assert_refused(convert(source, "--components", "tokenizer"), "tokenizer lacks encoder.jit or encoder.safetensors")
    assert_refused(convert(source, "--text-encoder-dir", "t5"), "text_encoder lacks", "--text-encoder-dir")
    assert_refused(convert(source, "--components", "dit"), "unknown dit", error=UsageError)
    assert_refused(convert(source, "--weights", "ema"), "leave --weights out")
    assert_refused(convert(tmp_path / "absent"), "absent: no such folder")
    (tmp_path / "empty").mkdir()
    assert_refused(convert(tmp_path / "empty"), "nothing to convert; looked for", f"{DIT}/model.pt")
    assert not (tmp_path / "converted").exists()


def test_help_names_every_option():
    output = jax_interp("convert", "--help").output.replace("- ", "-")  # lines break behind dashes, too
    for option in ("checkpoint-dir", "output-dir", "components", "dtype", "weights", "overwrite", "check-md5"):
        assert f"--{option}" in output
