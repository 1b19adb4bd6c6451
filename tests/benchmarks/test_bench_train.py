"""The training benchmark: every case at toy size, its FLOP by hand, and going on where it stopped."""

import argparse
import json
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import bench_train
from benchmarks.training.cases import CASES, TINY, TINY_SIZE
from benchmarks.training.flops import Flops, forward_flops, step_flops, utilisation
from jax_interp.config import DIT_7B


def options(**changed):
    return argparse.Namespace(
        **{"only": ["lora", "peer"], "output": None, "cache": None, "steps": 1, "seconds": 60.0, "limit": 60.0}
        | {"twice": False, "tiny": True, "height": 704, "width": 1280}
        | changed
    )


def line_of(case, found, capsys):
    bench_train.report(options(), case, found, [])
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [name if name == "lora" else pytest.param(name, marks=pytest.mark.thorough) for name in CASES]
)
def test_a_case_of_ours_runs(case, capsys):
    line = line_of(case, bench_train.measure_ours(CASES[case], TINY, TINY_SIZE, 1), capsys)
    assert line["case"] == case
    assert line["losses_finite"]
    assert line["median_seconds"] > 0
    assert (line["host_state_bytes"] > 0) == CASES[case].settings.optimizer_on_host
    assert line["program_bytes"] is None or line["program_bytes"]["sum"] > 0
    if CASES[case].backward:
        assert len(set(line["losses"])) > 1


@pytest.mark.skipif(not (find_spec("peft") and find_spec("diffusers")), reason="needs the extra `parity`")
@pytest.mark.slow
def test_the_peer_runs(capsys):
    from benchmarks.training.peer import measure_peer

    found = measure_peer(TINY, TINY_SIZE, 1, compiled=False)
    layers = 2 * TINY.num_blocks
    inputs_and_outputs = 4 * TINY.width + 3 * TINY.width + TINY.text_width  # two of queries, two of values
    assert found["trained_values"] == 8 * inputs_and_outputs * layers // 2
    assert line_of("peer", found, capsys)["losses_finite"]


def test_flops_of_the_7b_network():
    one = forward_flops(DIT_7B, 10_560, 512)
    assert one.forward / 1e12 == pytest.approx(193, rel=0.02)
    assert step_flops(Flops(10, 1), backward=False, adapter=True) == 11
    assert step_flops(Flops(10, 1), backward=True, adapter=False) == 33
    assert step_flops(Flops(10, 1), backward=True, adapter=True) == 23
    assert utilisation(989.4e12, 2, "NVIDIA H100 80GB HBM3", 1) == pytest.approx(0.5)
    assert utilisation(1, 1, "cpu", 1) is None


def test_goals():
    assert bench_train.goals(CASES["lora"], 1.2, 18.0) == {
        "seconds": {"at_most": 1.10, "found": 1.2, "met": False},
        "gib": {"at_most": 19, "found": 18.0, "met": True},
    }
    assert bench_train.goals(CASES["forward"], 1.2, None) == {}


def test_cases_that_are_there_are_not_run_again(tmp_path, monkeypatch):
    output, ran = tmp_path / "lines.jsonl", []
    output.write_text(
        '{"case": "lora", "tiny": true}\n{"case": "peer", "tiny": true, "skipped": "why"}\n{"case": "forw'
    )

    def child(_, case, limit):
        ran.append((case, limit))
        return case != "forward"

    monkeypatch.setattr(bench_train, "run_child", child)
    failed = bench_train.run_all(options(only=["lora", "peer", "forward"], output=output))
    assert [case for case, _ in ran] == ["peer", "forward"]
    assert failed == ["forward"]
    assert bench_train.run_all(options(seconds=-1.0)) == []
    assert len(ran) == 2


def test_too_few_devices_are_said(capsys):
    case = bench_train.measure_ours(CASES["lora"].__class__(CASES["lora"].settings, devices=99), TINY, TINY_SIZE, 1)
    assert "needs 99 devices" in line_of("lora", case, capsys)["skipped"]


def test_every_case_has_its_turn():
    assert set(bench_train.ORDER) == {*CASES, *bench_train.PEERS}
    assert np.isin(list(bench_train.HOST_GIB), bench_train.ORDER).all()
