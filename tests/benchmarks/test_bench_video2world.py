"""The benchmark of Video2World's memory, on the golden networks."""

import json
import os
from argparse import Namespace

import pytest

from benchmarks import bench_video2world
from jax_interp.components import PLACEMENT_NAMES
from jax_interp.pipeline.memory.plan import PROCESS_OVERHEAD
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard


def test_every_row_of_upstreams_table_has_a_strategy_and_a_figure():
    upstreams = [name for name in bench_video2world.STRATEGIES if name.startswith("+ ")]
    assert upstreams == [f"+ {name}" for name in PLACEMENT_NAMES]
    for column in bench_video2world.UPSTREAM_GB.values():
        assert {each["upstream"] for each in bench_video2world.STRATEGIES.values()} <= set(column)


def test_a_process_gets_what_upstream_states(monkeypatch):
    monkeypatch.setattr(bench_video2world, "gpu_bytes", lambda: 80 * 10**9)
    monkeypatch.setenv(bench_video2world.FRACTION, "0.5")

    def share(model, name):
        bench_video2world.limit_memory(model, name)
        found = os.environ.get(bench_video2world.FRACTION)
        return found and float(found)

    stated = 27.3 - PROCESS_OVERHEAD / 1e9
    assert share("dit-7b-video2world", "streamed") == pytest.approx(stated / 80, abs=1e-4)
    assert share("dit-14b-video2world", "+ prompt_upsampler") is None  # more than 80 GB: no limit
    assert share("another model", "streamed") is None
    most = share("dit-7b-video2world", "+ prompt_upsampler")
    assert most
    assert most < 76.5 / 80
    monkeypatch.setattr(bench_video2world, "gpu_bytes", lambda: None)
    assert share("dit-7b-video2world", "streamed") is None


def test_only_meanwhile_all_frames_are_allowed():
    classify, detect = FrameGuard.classify, FaceGuard.detect
    with bench_video2world.frames_are_allowed():
        assert FrameGuard.classify is not classify
        assert FaceGuard.detect is not detect
    assert FrameGuard.classify is classify
    assert FaceGuard.detect is detect


@pytest.mark.slow
def test_a_strategy_is_measured(converted_world, capsys):
    options = Namespace(work=converted_world.parent, model=converted_world.name, height=48, width=64, frames=9)
    bench_video2world.measure(options, "streamed")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["stages"]) == {"text", "encode", "denoise", "decode"}
    assert found["networks"] == ["diffusion_transformer", "text_encoder", "tokenizer"]
    assert "diffusion_transformer streamed" in found["placements"]
    assert found["predicted_peak_bytes"] > 0
