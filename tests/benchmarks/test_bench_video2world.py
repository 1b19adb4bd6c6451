"""The benchmark of Video2World's memory, on the golden networks."""

import json
from argparse import Namespace

import pytest

from benchmarks import bench_video2world
from jax_interp.components import PLACEMENT_NAMES


def test_every_row_of_upstreams_table_has_a_strategy_and_a_figure():
    upstreams = [name for name in bench_video2world.STRATEGIES if name.startswith("+ ")]
    assert upstreams == [f"+ {name}" for name in PLACEMENT_NAMES]
    for column in bench_video2world.UPSTREAM_GB.values():
        assert {each["upstream"] for each in bench_video2world.STRATEGIES.values()} <= set(column)


@pytest.mark.slow
def test_a_strategy_is_measured(converted_world, capsys):
    options = Namespace(work=converted_world.parent, model=converted_world.name, height=48, width=64, frames=9)
    bench_video2world.measure(options, "streamed")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["stages"]) == {"text", "encode", "denoise", "decode"}
    assert found["networks"] == ["diffusion_transformer", "text_encoder", "tokenizer"]
    assert "diffusion_transformer streamed" in found["placements"]
    assert found["predicted_peak_bytes"] > 0
