"""What the scaling scripts make of results: nothing where there are none, and the document that is there."""

import json

import imageio.v3 as iio
import numpy as np
import pytest

from benchmarks.scaling.model import ASSUMED
from benchmarks.scaling.results import RESULTS, read
from scripts import plot_scaling, predict_scaling, update_results


def line(benchmark, gpus, axis="sequence", placement="resident", **fields):
    config = {"model": "dit-7b", "gpus": gpus, "mesh": f"{axis}={gpus}" if gpus > 1 else "one GPU", "height": 704}
    config |= {"placement": placement, "pairs": 8 if benchmark == "scaling_pairs" else 1, "width": 1280}
    return {"benchmark": benchmark, "commit": "a run", "device": {"kind": "GPU"}, "config": config, **fields}


def step(gpus, took, *, cache="warm", peak=2**30, **where):
    peaks = {name: [peak] * gpus for name in ("allocator_peak_bytes", "process_peak_bytes")}
    return line("scaling_step", gpus, call_ms={"median": took}, compile_cache=cache, **peaks, **where)


def pair(gpus, seconds, denoise):
    times = {"median": 1e3 * seconds, "min": 1e3 * seconds}
    return line("scaling_pair", gpus, pair_ms=times, stage_seconds={"denoise": denoise})


def links(gpus, speed):
    names = ("all_to_all", "all_to_all_small", "all_gather", "host_to_device")
    found = {name: {"gb_per_s": speed, "seconds": 1e-5} for name in names} if gpus > 1 else {}
    return line("scaling_links", gpus, dispatch_seconds=5e-5, links=found)


def sixteen(entry):
    """The same line for twice as many pairs."""
    return {**entry, "config": {**entry["config"], "pairs": 16}}


@pytest.fixture
def results(tmp_path):
    lines = [
        step(1, 300.0),
        pair(1, 11.0, 10.9),
        step(4, 100.0),  # an older run
        step(4, 75.0),
        step(4, 150.0, placement="sharded", cache="warm", peak=2**29),
        step(4, 150.0, placement="sharded", cache="cold", peak=2**32),
        step(2, 140.0, axis="tensor"),
        pair(4, 2.75, 2.7),
        line("scaling_pairs", 1, axis="data", seconds=80.0),
        sixteen(line("scaling_pairs", 4, axis="data", seconds=40.0)),
        links(1, 0.0),
        links(4, 200.0),
        line("scaling_agreement", 4, errors={"one GPU": {"ratio": 1.0}, "sequence=4": {"ratio": 1.02}}),
        {**step(4, 1.0), "device": {"kind": "GPU"}, "config": {**step(4, 1.0)["config"], "model": "dit-14b"}},
    ]
    path = tmp_path / "scaling.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    return path


def test_the_newest_line_of_each_case_counts(results):
    scaling = read(results)
    assert scaling is not None
    assert scaling.evaluation == {1: 300.0, 4: 75.0}
    assert scaling.pair == {1: 11000.0, 4: 2750.0}
    assert scaling.pairs == {1: 10000.0, 4: 2500.0}  # of one pair, however many were measured
    assert scaling.undivided == pytest.approx(100.0)
    (sharded,) = [entry for entry in scaling.policies if entry["config"]["placement"] == "sharded"]
    assert sharded["compile_cache"] == "warm"


def test_results_of_another_gpu_do_not_mix(results):
    other = {**step(4, 60.0), "device": {"kind": "another"}}
    results.write_text(results.read_text() + json.dumps(other) + "\n")
    scaling = read(results)
    assert scaling is not None
    assert scaling.evaluation == {4: 60.0}


def test_several_gpus_stand_beside_one_of_the_same_host(results):
    faster = {**step(1, 270.0), "commit": "another run"}
    results.write_text(results.read_text() + json.dumps(faster) + "\n")
    scaling = read(results)
    assert scaling is not None
    assert scaling.evaluation == {1: 270.0, 4: 75.0}
    assert scaling.speedups["evaluation"] == {1: 1.0, 4: 4.0}


def test_results_show_several_gpus_once_they_were_measured(results):
    shown = "\n".join(update_results.scaling_parts(read(results)))
    assert "| 1 | 300 ms | 11.00 s | 10.00 s |" in shown
    assert "| 4 | 75 ms (4.00×) | 2.75 s (4.00×) | 2.50 s (4.00×) |" in shown
    assert "| sequence=4, sharded | 0.5 GiB | 0.5 GiB | 150 ms |" in shown
    assert "sequence=4 1.02." in shown
    assert list(update_results.scaling_parts(None)) == []


def test_results_link_the_plot_only_if_it_exists(results, tmp_path, monkeypatch):
    monkeypatch.setattr(update_results, "ROOT", tmp_path)
    assert "![" not in "".join(update_results.scaling_parts(read(results)))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / update_results.SCALING_PLOT).write_bytes(b"")
    assert f"]({update_results.SCALING_PLOT})" in "".join(update_results.scaling_parts(read(results)))


def test_plot(results, tmp_path):
    scaling = read(results)
    assert scaling is not None
    assert plot_scaling.speedups(scaling)["one whole pair"] == {1: 1.0, 4: 4.0}
    plot_scaling.draw(scaling, tmp_path / "plot.png")
    assert np.ptp(iio.imread(tmp_path / "plot.png")) == 255
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plot.png", "scaling.jsonl"]


def test_no_plot_without_results(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["plot", "--results", str(tmp_path / "none"), "--output", str(tmp_path / "a.png")])
    with pytest.raises(SystemExit, match="no results"):
        plot_scaling.main()
    assert not list(tmp_path.iterdir())


def test_document_shows_what_the_script_says():
    document = predict_scaling.DOCUMENT.read_text()
    assert predict_scaling.updated(document, predict_scaling.sections(read(RESULTS), {})) == document
    slower = predict_scaling.sections(read(RESULTS), {"network": 1.0})
    assert predict_scaling.updated(document, slower) != document


def test_measured_speeds_replace_assumed_ones(results):
    machine, measured = predict_scaling.machine_from(read(results), {})
    assert (machine.evaluation, machine.inside, machine.dispatch) == (300.0, 200.0, 50.0)
    assert machine.network == ASSUMED.network
    assert {"evaluation", "inside", "latency"} <= measured
    assert "network" not in measured
    tables = predict_scaling.sections(read(results), {})
    assert "Measured on GPU: 300 ms an evaluation" in tables["predictions"]
    assert "| 4 | 75.0 ms |" in tables["measured"]
    given, measured = predict_scaling.machine_from(read(results), {"inside": 1.0})
    assert given.inside == 1.0
    assert "inside" not in measured
