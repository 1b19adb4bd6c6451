"""The tables of results: one GPU a table, 8 bits in rows of their own."""

import pytest

from jax_interp.components import PLACEMENT_NAMES
from scripts import memory_tables, network_tables, result_lines, step_tables
from scripts.result_lines import by_card

OLD, NEW = "an old GPU", "a new GPU"


def step(card, took, *, tokens=step_tables.TOKENS, peers=None, **config):
    told = {"model": "dit-7b", "tokens": tokens, "pairs": 1, **config}
    times = {"median": took, "min": took}
    about = {"device": {"kind": card}, "config": told, "attention": "own kernel", "peers": peers or {}}
    return about | {"forward_ms": times, "forward_ms_after_peer": None, "allocator_peak_bytes": 2**33}


def upsampler(card, token, **config):
    told = {"case": "resident", **config}
    about = {"benchmark": "upsampler", "device": {"kind": card}, "config": told, "token_ms": {"median": token}}
    about |= {"read_bytes": 4e9, "memory_gb_per_s": 1000, "encode_ms": 1, "prefill_ms": 2}
    return about | {"allocator_peak_bytes": 2**30, "process_peak_bytes": 2**31}


def world(strategy, *, step_ms=None, networks=PLACEMENT_NAMES, **config):
    told = {"model": "dit-7b-video2world", "strategy": strategy, "frames": 121, "height": 704, "width": 1280}
    about = {"device": {"kind": OLD}, "config": told | config, "networks": list(networks), "upstream_gb": None}
    sizes = {"predicted_peak_bytes": 4 * 10**9, "allocator_peak_bytes": 3 * 10**9, "process_peak_bytes": 5 * 10**9}
    return about | sizes | {"step_ms": step_ms}


@pytest.fixture
def steps(monkeypatch):
    peers = {f"diffusers_{name}_ms": {"median": took} for name, took in (("eager", 480), ("compiled", 350))}
    lines = [
        step(OLD, 320, peers=peers),
        step(OLD, 220, quantization="int8"),
        step(OLD, 230, quantization="int8", placement="streamed"),
        step(NEW, 300),
        step(NEW, 270, quantization="int8-rotated"),
        step(NEW, 3600, tokens=step_tables.LONG, peers=peers),
    ]
    monkeypatch.setattr(step_tables, "results", lambda name: lines if name == "dit_step" else [])


def test_most_tables_are_of_the_card_that_has_compiled_peers(steps):
    assert step_tables.newest_step()["device"]["kind"] == OLD
    rows = [row[:2] for row in step_tables.step_rows(OLD)]
    name = "an evaluation of the 7B transformer, our attention kernel"
    assert rows == [
        (name, "320 ms"),
        (f"{name}, in 8 bits", "220 ms, 8.0 GiB"),
        (f"{name}, in 8 bits, streamed", "230 ms, 8.0 GiB"),
    ]


def test_another_card_and_longer_clips_have_tables_of_their_own(steps):
    (other,) = step_tables.other_steps(OLD)
    assert other.startswith(f"| warm, median, {NEW} |")
    assert "300 ms" in other
    assert ", int8-rotated | 270 ms" in other
    assert "3600 ms" not in other
    assert "320 ms" not in other
    (long,) = step_tables.long_parts()
    assert "56,320 tokens" in long
    assert "| 3600 ms | 480 ms (7.50) |" in long


def test_torchao_stands_beside_8_bits_and_takes_no_other_rows_place(steps, monkeypatch):
    (name, _), *_ = step_tables.TORCHAO.items()
    lines = step_tables.results("dit_step")
    lines += [
        step(OLD, 221, quantization="int8", peers={name: {"median": 442}, "diffusers_eager_ms": {"median": 470}}),
        step(NEW, 221, quantization="int8", peers={name: "OutOfMemoryError"}),
    ]
    (table,) = step_tables.torchao_parts()
    assert OLD in table
    assert "| 7B | 221 ms | 442 ms (0.50) |  |" in table
    lines.append(step(OLD, 227, quantization="int8"))
    other = list(step_tables.TORCHAO)[1]
    lines += [
        step(OLD, 223, quantization="int8", peers={other: {"median": 446}}),
        step(OLD, 224, quantization="int8", peers={f"{name}_tuned": {"median": 300}}),
        step(OLD, 232, quantization="int8-smoothed", peers={name: {"median": 464}}),
        step(OLD, 400, quantization="int8", model="dit-14b", peers={name: {"median": 800}}),
    ]
    (table,) = step_tables.torchao_parts()
    assert "| 7B | 223 ms | 442 ms (0.50) | 446 ms (0.50) |" in table
    assert "| 14B | 400 ms | 800 ms (0.50) |  |" in table
    del lines[-4:]
    eager = [row for row in step_tables.step_rows(OLD) if row[0].endswith("in 8 bits")]
    assert [row[1:] for row in eager] == [("221 ms, 8.0 GiB", "470 ms (0.47)", "")]


def test_memory_in_8_bits_has_rows_of_its_own(steps, monkeypatch):
    def memory(peak, **config):
        told = {"model": "dit-7b", "strategy": "streamed", "pairs": 1, **config}
        about = {"benchmark": "memory", "device": {"kind": OLD}, "config": told, "compile_cache": "warm"}
        about |= {"stages": {"text": {}}, "call_ms": {"median": 300}, "host_bytes": 0, "process_peak_bytes": 2**36}
        return about | {"allocator_peak_bytes": peak, "predicted_peak_bytes": peak}

    lines = [memory(2**35), memory(2**34, quantization="int8")]
    worlds = [world("streamed"), world("+ tokenizer"), world("streamed", networks=PLACEMENT_NAMES[-2:])]
    worlds = [line | {"upstream_gb": 27.3} for line in worlds]
    monkeypatch.setattr(memory_tables, "results", lambda name: lines if name == "memory" else worlds)
    rows = {row[0]: row[1] for row in memory_tables.memory_rows()}
    assert rows == {"7B, streamed": "32.0 GiB", "7B, streamed, in 8 bits": "16.0 GiB"}
    of_world, of_pair = memory_tables.summary_memory()
    assert of_world[1:] == ("3.0 GB, process 5.0 GB", "upstream states 27.3 GB, all offloaded")
    assert of_pair[1] == "32.0 GiB, process 64.0 GiB, 300 ms an evaluation"


def test_rows_of_another_card_or_job_are_left_out(steps, monkeypatch):
    lines = [
        world("streamed", step_ms={"median": 7000}),
        world("streamed", frames=25, step_ms={"median": 900}),
        world("streamed", networks=PLACEMENT_NAMES[-2:], step_ms={"median": 800}),
        world("+ tokenizer", model="another-video2world"),
        world("+ tokenizer"),
    ]
    monkeypatch.setattr(memory_tables, "results", lambda name: lines)
    (table,) = memory_tables.world_parts()
    assert table.splitlines()[2:] == [
        "| 7B, + tokenizer offloaded | 4.0 GB | 3.0 GB | 5.0 GB |  | more than 80 GB |",
        "| 7B, streamed | 4.0 GB | 3.0 GB | 5.0 GB | 7.0 s | more than 80 GB |",
        "| ANOTHER, + tokenizer offloaded | 4.0 GB | 3.0 GB | 5.0 GB |  |  |",
    ]

    def pair(card, took):
        config = {"model": "dit-7b"}
        return {
            "benchmark": "pair",
            "device": {"kind": card},
            "config": config,
            "pair_ms": {"median": took},
            "commit": "",
        }

    pairs = [pair(OLD, 11_000), pair(NEW, 9_000)]
    for module in (step_tables, result_lines):
        monkeypatch.setattr(module, "results", lambda name: pairs if name == "pair" else [])
    assert [row[:2] for row in step_tables.stage_rows(OLD)] == [("a whole pair", "11.0 s")]


def test_the_upsamplers_tables(monkeypatch):
    lines = [upsampler(OLD, 12), upsampler(NEW, 8, quantization="int8"), upsampler(NEW, 10), upsampler(OLD, 11)]
    monkeypatch.setattr(network_tables, "results", lambda name: lines)
    old, new = network_tables.upsampler_parts()
    assert "| resident | 11.0 ms | 4.0 ms (36 %) |" in old
    assert "8.0 ms" not in old
    assert new.index("| resident | 10.0 ms |") < new.index("| resident, in 8 bits | 8.0 ms |")


def test_lines_by_card_keep_their_order():
    lines = [upsampler(NEW, 1), upsampler(OLD, 2), upsampler(NEW, 3)]
    found = by_card(lines)
    assert list(found) == [NEW, OLD]
    assert [line["token_ms"]["median"] for line in found[NEW]] == [1, 3]
