"""The benchmark of Video2World's memory, on the golden networks."""

import json
import os
from argparse import Namespace

import pytest

from benchmarks import bench_video2world
from jax_interp.components import PLACEMENT_NAMES
from jax_interp.errors import OutOfMemory, UsageError
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard


def test_every_row_of_upstreams_table_has_a_strategy_and_a_figure():
    upstreams = [name for name in bench_video2world.STRATEGIES if name.startswith("+ ")]
    assert upstreams == [f"+ {name}" for name in PLACEMENT_NAMES]
    for column in bench_video2world.UPSTREAM_GB.values():
        assert {each["upstream"] for each in bench_video2world.STRATEGIES.values()} <= set(column)


def test_a_process_gets_what_its_row_claims_and_all_if_that_is_too_little(monkeypatch):
    bench, started = bench_video2world, []

    def start(module, *arguments, limit):
        started.append((arguments[-1], *(os.environ.get(name) for name in bench.LIMITING)))
        return arguments[-1] != "+ tokenizer" or bench.FRACTION not in os.environ

    monkeypatch.setattr(bench, "gpu_bytes", lambda: 80 * 10**9)
    monkeypatch.setattr(bench, "in_fresh_process", start)
    for name in bench.LIMITING:
        monkeypatch.setenv(name, "before")

    def shares(model, *names):
        started.clear()
        monkeypatch.setattr("sys.argv", ["bench", "work", "--model", model, "--only", *names])
        bench.main()
        return [(name, share and float(share) * 80, at_once) for name, share, at_once in started]

    context = bench.CONTEXT / 1e9
    assert shares("dit-7b-video2world", "streamed", "budget of 8 GiB", "+ tokenizer") == [
        ("streamed", pytest.approx(0.45 * 27.3 - context, abs=0.01), "true"),
        ("budget of 8 GiB", pytest.approx((8 * 2**30 - bench.PROCESS_OVERHEAD) / 1e9, abs=0.01), "true"),
        ("+ tokenizer", pytest.approx(41.1 - context, abs=0.01), "true"),
        ("+ tokenizer", None, "false"),
    ]
    # More than 80 GB, and what nobody states, is no limit; a budget holds whatever upstream states.
    assert shares("dit-14b-video2world", "+ prompt_upsampler") == [("+ prompt_upsampler", None, "false")]
    assert shares("another model", "streamed") == [("streamed", None, "false")]
    assert shares("another model", "budget of 8 GiB")[0][2] == "true"
    monkeypatch.setattr(bench, "gpu_bytes", lambda: 76 * 10**9)
    ((_, most, _),) = shares("dit-7b-video2world", "+ prompt_upsampler")
    assert most == pytest.approx(80 * bench.LARGEST_SHARE)
    monkeypatch.setattr(bench, "in_fresh_process", lambda *_, limit: False)
    with pytest.raises(SystemExit, match="failed: streamed"):
        shares("dit-7b-video2world", "streamed")
    monkeypatch.setattr(bench, "in_fresh_process", start)
    monkeypatch.setattr(bench, "gpu_bytes", lambda: None)
    assert shares("dit-7b-video2world", "streamed") == [("streamed", None, "false")]


def test_only_meanwhile_all_frames_are_allowed():
    classify, detect = FrameGuard.classify, FaceGuard.detect
    with bench_video2world.frames_are_allowed():
        assert FrameGuard.classify is not classify
        assert FaceGuard.detect is not detect
    assert FrameGuard.classify is classify
    assert FaceGuard.detect is detect


def test_what_random_weights_say_is_noted_and_too_little_memory_ends_the_run(tmp_path):
    run = bench_video2world.Run(world=None, settings=None, work=tmp_path)  # pyright: ignore[reportArgumentType]

    def fail(error):
        raise error

    run._stage("upsample", lambda: fail(UsageError(f"{tmp_path}/Pixtral-12B: wrote nothing")))
    assert run.stages["upsample, refused"] == {"why": "Pixtral-12B: wrote nothing"}
    with pytest.raises(OutOfMemory):
        run._stage("denoise", lambda: fail(OutOfMemory("too large")))
    assert "denoise" not in run.stages


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["streamed", "+ text_encoder"])
def test_a_strategy_is_measured(converted_world, capsys, strategy):
    options = Namespace(work=converted_world.parent, model=converted_world.name, height=48, width=64, frames=9)
    bench_video2world.measure(options, strategy)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["stages"]) == {"text", "encode", "denoise", "decode"}
    assert found["networks"] == ["diffusion_transformer", "text_encoder", "tokenizer"]
    assert f"diffusion_transformer {'streamed' if strategy == 'streamed' else 'resident'}" in found["placements"]
    assert found["step_ms"]["repeats"] == 1  # of three, the others compile and read
    assert found["predicted_peak_bytes"] > 0
