"""`jax-interp train` on the golden networks: a network and an adapter trained, resumed and refused."""

import json
import shutil
import sys

import numpy as np
import pytest

from convert.target.folders import writer_lock
from jax_interp.runtime.checkpoint.converted import open_component
from tests.commands import jax_interp
from tests.train.training_data import HEIGHT, WIDTH, add_clip

SIZE = ("--height", HEIGHT, "--width", WIDTH)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    add_clip(folder, "one", frames=12)
    add_clip(folder, "three", frames=11, caption="Other waves.")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("encoded")


def train(converted, data, cache, output, *options, steps=3):
    return jax_interp(
        *("train", "--data", data, "--checkpoint-dir", converted, "--output-dir", output, "--cache", cache, *SIZE),
        *("--steps", steps, "--dtype", "float32", *options),
    )


def metrics(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def generate(converted, output, *options):
    video = output.parent / "pictures"
    if not video.exists():
        add_clip(video, "pair", frames=2)
    return jax_interp(
        *("generate", "--checkpoint-dir", converted, "--input", video / "videos" / "pair.mp4", *SIZE),
        *("--num-steps", 1, "--dtype", "float32", "--disable-guardrail", "--negative-prompt", ""),
        *("--video-save-folder", output, *options),
    )


@pytest.mark.slow
def test_a_network_is_trained_and_used_like_any_other(converted, data, cache, tmp_path):
    outcome = train(converted, data, cache, tmp_path / "run", "--save-every", 2, "--learning-rate", 1e-3)
    assert outcome.code == 0, outcome.output
    assert [entry["step"] for entry in metrics(tmp_path / "run")] == [1, 2, 3]
    assert all(np.isfinite(entry["loss"]) for entry in metrics(tmp_path / "run"))
    found = open_component(tmp_path / "run" / "network")
    assert "trained" in found.manifest["settings"]
    trained = found.manifest["settings"]["trained"]
    assert trained["from"]["folder"] == "Cosmos-Predict1-7B-WorldInterpolator"
    assert (trained["steps"], trained["samples"]) == (3, 5)
    [steps] = [sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())]
    assert steps == ["step-000000002", "step-000000003"]
    for command in (
        ("inspect", tmp_path / "run" / "network"),
        ("export", "--converted-dir", tmp_path / "run", "--output-dir", tmp_path / "export"),
    ):
        outcome = jax_interp(*command)
        assert outcome.code == 0, outcome.output
    outcome = generate(
        converted, tmp_path / "out", "--diffusion-transformer-dir", (tmp_path / "run" / "network").resolve()
    )
    assert outcome.code == 0, outcome.output
    record = json.loads((tmp_path / "out" / "output.json").read_text())
    assert record["networks"]["diffusion_transformer"]["sha256"] == found.source_sha256


@pytest.mark.slow
def test_an_adapter_is_trained_and_merged(converted, data, cache, tmp_path):
    run = tmp_path / "run"
    outcome = train(converted, data, cache, run, "--lora-rank", 4, "--learning-rate", 0.05, "--lora-targets", "q,v,out")
    assert outcome.code == 0, outcome.output
    assert "training an adapter of 18 layers" in outcome.output
    assert json.loads((run / "adapter" / "trained.json").read_text())["layers"] == 18
    outputs = {}
    for name, options in {
        "base": (),
        "adapted": ("--lora", run / "adapter"),
        "none": ("--lora", f"{run}/adapter=0"),
    }.items():
        outcome = generate(converted, tmp_path / name, *options, "--save-frames", tmp_path / name / "frames")
        assert outcome.code == 0, outcome.output
        outputs[name] = b"".join(path.read_bytes() for path in sorted((tmp_path / name / "frames").iterdir()))
    assert outputs["base"] == outputs["none"] != outputs["adapted"]
    listed = json.loads((tmp_path / "adapted" / "output.json").read_text())["networks"]["diffusion_transformer"]["lora"]
    assert [(entry["layers"], entry["strength"]) for entry in listed] == [(18, 1.0)]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights(converted, data, cache, tmp_path):
    options = ("--save-every", 1, "--keep", 9, "--lora-rank", 2, "--seed", 5)
    assert train(converted, data, cache, tmp_path / "whole", *options, steps=4).code == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    for gone in ("adapter", "checkpoints/step-000000003", "checkpoints/step-000000004"):
        shutil.rmtree(tmp_path / "stopped" / gone)
    again = train(converted, data, cache, tmp_path / "stopped", *options, steps=4)
    assert again.code == 2
    assert "pass --resume" in again.output
    outcome = train(converted, data, cache, tmp_path / "stopped", *options, "--resume", steps=4)
    assert outcome.code == 0, outcome.output
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "stopped")
    weights = [
        (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("whole", "stopped")
    ]
    assert weights[0] == weights[1]
    other = train(converted, data, cache, tmp_path / "stopped", *options, "--resume", "--learning-rate", 0.5, steps=4)
    assert other.code == 2
    assert "holds another run (it differs in settings)" in other.output


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_with_the_checkpoint_before(converted, data, cache, tmp_path):
    options = ("--save-every", 1, "--learning-rate", 1e30, "--warmup-steps", 0)
    outcome = train(converted, data, cache, tmp_path / "run", *options, steps=9)
    assert outcome.code == 1
    assert "the loss of step" in outcome.output
    assert "stays" in outcome.output
    assert not (tmp_path / "run" / "network").exists()
    assert list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_held_out_pair_is_drawn_and_not_trained_on(converted, data, cache, tmp_path):
    options = ("--held-out", "one", "--preview-every", 2, "--lora-rank", 2)
    outcome = train(converted, data, cache, tmp_path / "run", *options, steps=2)
    assert outcome.code == 0, outcome.output
    from PIL import Image

    with Image.open(tmp_path / "run" / "previews" / "step-000000002.png") as picture:
        assert picture.size == (5 * WIDTH, 3 * HEIGHT)
    assert json.loads((tmp_path / "run" / "adapter" / "trained.json").read_text())["samples"] == 2


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--learning-rate", 0), 2, "--learning-rate is 0.0; expected more than 0"),
        (("--warmup-steps", 3), 2, "the full rate is never reached"),
        (("--batch-size", 3, "--accumulate", 2), 2, "--accumulate 2"),
        (("--mesh", "data=2"), 2, "does not divide among 2 devices"),
        (("--lora-rank", 0), 2, "--lora-rank is 0"),
        (("--lora-rank", 2, "--lora-targets", "to_q"), 2, "--lora-targets to_q: to_q matches no layer"),
        (("--height", 65), 2, "--height 65: expected a multiple of 16"),
        (("--held-out", "four"), 2, "--held-out four: expected one of several videos"),
        (("--preview-every", 1), 2, "--held-out"),
        (("--resume",), 2, "has no run to go on with"),
        (("--keep", 0), 2, "--keep is 0"),
        (("--num-video-frames", 11), 2, "--num-video-frames 11"),
    ],
    ids=str,
)
def test_options_that_cannot_work(converted, data, cache, tmp_path, options, code, said):
    outcome = train(converted, data, cache, tmp_path / "run", *options)
    assert outcome.code == code, outcome.output
    assert said in outcome.output
    assert "Traceback" not in outcome.output
    assert not (tmp_path / "run").exists()


def test_without_grain_nothing_is_encoded_or_written(converted, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    outcome = train(converted, data, tmp_path / "cache", tmp_path / "run")
    assert outcome.code == 2
    assert 'training reads its data with grain: pip install -e ".[train]" in the clone' in outcome.output
    assert not list(tmp_path.iterdir())


def test_a_run_has_its_folder_to_itself(converted, data, cache, tmp_path):
    (tmp_path / "run").mkdir()
    with writer_lock(tmp_path / "run"):
        outcome = train(converted, data, cache, tmp_path / "run")
    assert outcome.code == 3
    assert "another jax-interp is writing to it" in outcome.output


def test_data_that_cannot_work(converted, cache, tmp_path):
    (tmp_path / "data").mkdir()
    outcome = train(converted, tmp_path / "data", cache, tmp_path / "run")
    assert outcome.code == 4
    assert "put the videos there" in outcome.output
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else(converted, data, cache, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    outcome = train(converted, data, cache, tmp_path / "run")
    assert outcome.code == 2
    assert "is there already and is no training run" in outcome.output
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_an_adapter_of_another_network(converted, tmp_path):
    import safetensors.numpy

    key = "base_model.model.transformer_blocks.0.attn1.to_q.lora_{}.weight"
    arrays = {key.format("A"): np.zeros((2, 64), np.float32), key.format("B"): np.zeros((64, 2), np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "other.safetensors")
    outcome = generate(converted, tmp_path / "out", "--lora", tmp_path / "other.safetensors")
    assert outcome.code == 3
    assert "not an adapter of this network" in outcome.output
    assert not (tmp_path / "out").exists()
