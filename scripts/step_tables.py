"""The tables of docs/results.md about one evaluation and one pair, beside diffusers."""

from collections.abc import Iterator

from benchmarks.scaling.results import Line
from scripts.result_lines import Row, bits_of, by_card, gib_or_nothing, newest, results, size_of, table, whole_pairs

ATTENTION = {"own kernel": "our attention kernel", "other": "cuDNN's attention", "cudnn": "cuDNN's attention"}
STEP_HEADS = ("warm, median", "jax-interp", "diffusers eager", "torch.compile")
PEERS = ("diffusers_eager_ms", "diffusers_compiled_ms")
TORCHAO = {
    "torchao_int8_dynamic_compiled_ms": "torchao 0.18, int8 dynamic",
    "torchao_float8_rowwise_compiled_ms": "torchao 0.18, float8 rowwise",
}
"""The measurements of torchao's schemes, compiled by blocks, with the heads of their columns."""
TWO_BRANCHES = "two branches, as upstream runs it"
TOKENS, LONG = 10560, 56320
"""The tokens of a pair at 704×1280, and of a clip of 121 frames."""


def steps(tokens: int = TOKENS) -> list[Line]:
    """Return the evaluations of a sample of that many tokens."""
    lines = results("dit_step")
    return [line for line in lines if (line["config"]["tokens"], line["config"]["pairs"]) == (tokens, 1)]


def newest_step() -> Line:
    """Return the newest evaluation of full weights beside compiled peers, which decides the card of most tables."""
    return [line for line in steps() if bits_of(line) == "" and "diffusers_compiled_ms" in line["peers"]][-1]


def other_steps(card: str) -> Iterator[str]:
    """Evaluations on other GPUs than `card`, a table each."""
    for other in by_card(steps()):
        if other != card:
            yield table((f"warm, median, {other}", *STEP_HEADS[1:]), step_rows(other))


def long_parts() -> Iterator[str]:
    """Evaluations as long as a clip of 121 frames, which are mostly attention."""
    for card, lines in by_card(steps(LONG)).items():
        yield table((f"{LONG:,} tokens (121 frames), {card}", *STEP_HEADS[1:]), _step_rows(lines))


def torchao_parts() -> Iterator[str]:
    """Evaluations in 8 bits beside torchao's in the same process; a table for each kind of GPU."""
    for card, lines in by_card(steps()).items():
        newest_of: dict[tuple[str, str], tuple[float, float]] = {}
        for line in lines:
            for name, found in line["peers"].items() if line["config"].get("quantization") == "int8" else ():
                if name in TORCHAO and isinstance(found, dict):
                    newest_of[line["config"]["model"], name] = _slower_median(line), found["median"]
        rows = []
        for model in dict.fromkeys(model for model, _ in newest_of):
            beside = [newest_of.get((model, name)) for name in TORCHAO]
            cells = [f"{took[1]:.0f} ms ({took[0] / took[1]:.2f})" if took else "" for took in beside]
            rows.append((size_of(model), f"{max(took[0] for took in beside if took):.0f} ms", *cells))
        if rows:
            yield table((f"in 8 bits, {card}", "jax-interp, int8", *TORCHAO.values()), rows)


def step_rows(card: str) -> Iterator[Row]:
    """Evaluations of a pair on `card`."""
    return _step_rows(by_card(steps())[card])


def _step_rows(lines: list[Line]) -> Iterator[Row]:
    """An evaluation of a transformer; a row for every kernel of attention, placement and precision measured."""
    chosen: dict[tuple[str, ...], Line] = {}
    for line in lines:
        placement = line["config"].get("placement", "resident")
        key = (
            line["config"]["model"],
            line["attention"],
            bits_of(line),
            "" if placement == "resident" else f", {placement}",
        )
        if _count_peers(line) >= _count_peers(chosen.get(key)):
            chosen[key] = line
    for (model, attention, bits, placement), line in chosen.items():
        ours = _slower_median(line)
        peers = [line["peers"].get(name) for name in PEERS]
        cells = [f"{peer['median']:.0f} ms ({ours / peer['median']:.2f})" if peer else "" for peer in peers]
        what = f"an evaluation of the {size_of(model)} transformer, {ATTENTION[attention]}{bits}{placement}"
        peak = f", {gib_or_nothing(line['allocator_peak_bytes'])}" if bits else ""
        yield what, f"{ours:.0f} ms{peak}", *cells


def _count_peers(line: Line | None) -> int:
    """Return how many of the table's peers were measured beside a line."""
    return sum(name in line["peers"] for name in PEERS) if line else 0


def _slower_median(line: Line) -> float:
    """Return the milliseconds of an evaluation, before or after its peers: whichever is more."""
    after = line["forward_ms_after_peer"] or line["forward_ms"]
    return max(line["forward_ms"]["median"], after["median"])


def stage_rows(card: str) -> Iterator[Row]:
    """The tokenizer and a whole pair on `card`, beside diffusers where it was run."""
    other = newest("pair", "pair_upstreams_way", card, model="dit-7b")
    pairs, quantized = whole_pairs(card, quantized=False), whole_pairs(card, quantized=True)
    beside = [line for line in pairs if other and line["commit"] == other["commit"]]  # in the same process
    pair = next(reversed(beside or pairs), None)
    for name in ("encode", "decode"):
        if line := newest("tokenizer", f"tokenizer_{name}", card):
            peer = f"{1e3 * other['stage_seconds'][name]:.0f} ms" if other else ""
            yield f"{name} a pair", f"{line['ms']['median']:.0f} ms", peer, ""
    for line in (pair, quantized[-1] if quantized else None):
        if line:
            took = line["pair_ms"]["median"] / 1e3
            ratio = f"({took / other['total']:.2f}; {TWO_BRANCHES})" if other else ""
            peer = f"{other['total']:.1f} s {ratio}" if other else ""
            yield f"a whole pair{bits_of(line)}", f"{took:.1f} s", peer, ""
