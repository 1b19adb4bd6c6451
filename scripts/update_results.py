"""Write the tables of docs/results.md and the one of README.md from benchmarks/results/.

So every number there is a line of a result file. A row appears when there is a result for it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.scaling.results import Line, Scaling, read
from scripts.network_tables import guardrail_parts, training_parts, upsampler_parts
from scripts.result_lines import (
    RESULTS,
    Row,
    bits_of,
    by_card,
    gib_or_nothing,
    newest,
    results,
    size_of,
    table,
    whole_pairs,
)

ROOT = Path(__file__).parents[1]
SCALING_PLOT = "scaling.png"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

UPSTREAM_GB = {
    "resident": ("59.9", "73.3"),
    "+ text encoder offloaded": ("41.3", "54.8"),
    "+ tokenizer offloaded": ("41.1", "54.5"),
    "+ transformer offloaded": ("27.3", "39.0"),
}
"""What upstream states for 7B and 14B, with prompt upsampler and guardrails offloaded: neither is in these runs."""


ATTENTION = {"own kernel": "our attention kernel", "other": "cuDNN's attention", "cudnn": "cuDNN's attention"}


def tables() -> str:
    """Return the Markdown between the marks of docs/results.md."""
    step = _newest_step()
    versions = ", ".join(f"{name} {found}" for name, found in step["versions"].items())
    card = step["device"]["kind"]
    parts = [
        table(STEP_HEADS, [*step_rows(card), *stage_rows()]),
        *other_steps(card),
        *long_parts(),
        table(
            ("strategy", "peak", "planned", "process", "one evaluation, per pair", "host", "upstream states"),
            list(memory_rows()),
        ),
        table(("once", ""), list(once_rows())),
        *world_parts(),
        *upsampler_parts(),
        *guardrail_parts(),
        *training_parts(),
        *scaling_parts(read(RESULTS / "scaling.jsonl"), read(RESULTS / "scaling.jsonl", quantization="int8")),
        *demo_parts(),
    ]
    head = (
        f"{card}, unless a table names another, 704×1280, bfloat16, random weights of the real sizes ({versions}).\n\n"
    )
    return head + "\n".join(parts)


STEP_HEADS = ("warm, median", "jax-interp", "diffusers eager", "torch.compile")
TOKENS = 10560
"""The tokens of a pair at 704×1280."""


def steps(tokens: int = TOKENS) -> list[Line]:
    """Return the evaluations of a sample of that many tokens."""
    lines = results("dit_step")
    return [line for line in lines if (line["config"]["tokens"], line["config"]["pairs"]) == (tokens, 1)]


def _newest_step() -> Line:
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


LONG = 56320


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
        if line["peers"] or not chosen.get(key, {}).get("peers"):
            chosen[key] = line
    for (model, attention, bits, placement), line in chosen.items():
        after = line["forward_ms_after_peer"] or line["forward_ms"]
        ours = max(line["forward_ms"]["median"], after["median"])
        peers = [line["peers"].get(f"diffusers_{name}_ms") for name in ("eager", "compiled")]
        cells = [f"{peer['median']:.0f} ms ({ours / peer['median']:.2f})" if peer else "" for peer in peers]
        what = f"an evaluation of the {size_of(model)} transformer, {ATTENTION[attention]}{bits}{placement}"
        peak = f", {gib_or_nothing(line['allocator_peak_bytes'])}" if bits else ""
        yield what, f"{ours:.0f} ms{peak}", *cells


def stage_rows() -> Iterator[Row]:
    """The tokenizer and a whole pair, beside diffusers where it was run."""
    other = newest("pair", "pair_upstreams_way", model="dit-7b")
    pairs, quantized = whole_pairs(quantized=False), whole_pairs(quantized=True)
    beside = [line for line in pairs if other and line["commit"] == other["commit"]]  # in the same process
    pair = next(reversed(beside or pairs), None)
    for name in ("encode", "decode"):
        if line := newest("tokenizer", f"tokenizer_{name}"):
            peer = f"{1e3 * other['stage_seconds'][name]:.0f} ms" if other else ""
            yield f"{name} a pair", f"{line['ms']['median']:.0f} ms", peer, ""
    for line in (pair, quantized[-1] if quantized else None):
        if line:
            took = line["pair_ms"]["median"] / 1e3
            ratio = f"({took / other['total']:.2f}; two branches, as upstream runs it)" if other else ""
            peer = f"{other['total']:.1f} s {ratio}" if other else ""
            yield f"a whole pair{bits_of(line)}", f"{took:.1f} s", peer, ""


def world_parts() -> Iterator[str]:
    """Video2World's memory on the job of upstream's own table; a table for each kind of GPU."""
    for card, lines in by_card(results("video2world")).items():
        newest_of = {(line["config"]["model"], line["config"]["strategy"]): line for line in lines}
        yield _world_table(card, list(newest_of.values()))


def _world_table(card: str, lines: list[Line]) -> str:
    rows = [
        (
            f"{size_of(line['config']['model'].removesuffix('-video2world'))}, {line['placements']}",
            gib_or_nothing(line["allocator_peak_bytes"]),
            gib_or_nothing(line["predicted_peak_bytes"]),
            gib_or_nothing(line["process_peak_bytes"]),
            f"{line['step_ms']['median'] / 1e3:.1f} s",
            f"{line['upstream_gb']} GB" if line["upstream_gb"] else "more than 80 GB",
        )
        for line in sorted(lines, key=lambda line: (line["config"]["model"], -line["predicted_peak_bytes"]))
    ]
    heads = ("peak", "planned", "process", "a step, both branches", "upstream states")
    return table((f"Video2World, 121 frames, {card}", *heads), rows)


def memory_rows() -> Iterator[Row]:
    """Peaks and speed of every strategy."""
    lines = {(line["config"]["model"], line["config"]["strategy"], line["compile_cache"]): line for line in memory()}
    for (model, strategy, cache), line in sorted(lines.items(), key=_place_in_table):
        if cache == "cold" and (model, strategy, "warm") in lines:
            continue
        size = size_of(model)
        stated = UPSTREAM_GB.get(strategy, ("", ""))[("7B", "14B").index(size)]
        yield (
            f"{size}, {strategy}{'' if 'text' in line['stages'] else ', no text stage'}"
            f"{', first start' if cache == 'cold' else ''}",
            gib_or_nothing(line["allocator_peak_bytes"]),
            gib_or_nothing(line["predicted_peak_bytes"]),
            gib_or_nothing(line["process_peak_bytes"]),
            f"{line['call_ms']['median'] / line['config']['pairs']:.0f} ms",
            gib_or_nothing(line["host_bytes"]),
            f"{stated} GB" if stated else "",
        )


def _place_in_table(entry: tuple[tuple[str, str, str], Line]) -> tuple[int, int]:
    """Return a key that sorts 7B before 14B, and the largest memory of the process first."""
    (model, _, _), line = entry
    return int(size_of(model)[:-1]), -line["predicted_peak_bytes"]


def memory() -> list[Line]:
    """Return every run of `bench_memory` on the card of most tables."""
    lines = [line for line in results("memory") if line["benchmark"] == "memory"]
    return by_card(lines)[_newest_step()["device"]["kind"]]


def once_rows() -> Iterator[Row]:
    """Starts and conversion."""
    for caches in ("cold", "warm"):
        if line := newest("startup", "startup", caches=caches):
            seconds = f"{line['first_step_seconds']:.0f} s, of which compiling {line['compile_seconds']:.1f} s"
            yield f"`generate` with {caches} caches, until the first step is done", seconds
    for line in results("parity_7b")[-1:]:
        what = f"error of an evaluation against float32 over diffusers' own, {ATTENTION[line['attention']]}"
        yield what, f"{line['error_against_float32']['ratio']:.2f}"
    if convert := newest("convert", "convert_full_size"):
        yield (
            f"`convert` of {convert['converted_bytes'] / 1e9:.0f} GB of checkpoints, all in bfloat16",
            f"{convert['wall_seconds']:.0f} s, peak host memory {gib_or_nothing(convert['peak_host_bytes'])}",
        )


def scaling_parts(scaling: Scaling | None, quantized: Scaling | None = None) -> Iterator[str]:
    """Several GPUs of one host: speed, plot, memory and agreement; nothing before they were measured."""
    if scaling is None or scaling.most == 1:
        return
    measured = [(found, what) for found in (scaling, quantized) for what in SCALED]
    columns = [(found, what) for found, what in measured if found is not None and len(getattr(found, what)) > 1]
    heads = ("GPUs", *(_head(found, what, found is quantized) for found, what in columns))
    yield f"{scaling.device}, 7B, several in one host:\n\n" + table(heads, list(scaling_rows(columns)))
    if (ROOT / "docs" / SCALING_PLOT).exists():
        yield f"![Speed-up over GPUs of one host]({SCALING_PLOT})\n"
    heads = ("mesh, transformer", "peak of a GPU", "process on a GPU", "an evaluation, per pair")
    yield table(heads, list(policy_rows(scaling)))
    yield "[Several GPUs](several-gpus.md) has the link speeds, and what follows for more GPUs and hosts.\n"
    if scaling.agreement:
        errors = scaling.agreement["errors"].items()
        ratios = [f"{name} {error['ratio']:.2f}" for name, error in errors if name != "one GPU"]
        yield f"Error of sampled latents against float32 over that of one GPU: {', '.join(ratios)}.\n"


SCALED = {
    "evaluation": ("an evaluation of one pair", "{:.0f} ms", 1.0),
    "pair": ("one whole pair", "{:.2f} s", 1e3),
    "pairs": ("one of many pairs", "{:.2f} s", 1e3),
    "world": ("a step of Video2World, 121 frames", "{:.2f} s", 1e3),
}
"""What was measured on several GPUs, by the field of `Scaling`: its name, the form of its numbers, and their unit."""


def _head(scaling: Scaling, what: str, quantized: bool) -> str:
    return SCALED[what][0] + (", in 8 bits" if quantized else "")


def scaling_rows(columns: list[tuple[Scaling, str]]) -> Iterator[Row]:
    """Each column by number of GPUs; in brackets how many times faster than one of the same host."""
    for gpus in sorted({gpus for scaling, what in columns for gpus in getattr(scaling, what)}):
        yield str(gpus), *(_faster(scaling, what, gpus, *SCALED[what][1:]) for scaling, what in columns)


def policy_rows(scaling: Scaling) -> Iterator[Row]:
    """Every way to lay out the transformer over the GPUs."""
    for line in scaling.policies:
        config = line["config"]
        yield (
            f"{config['mesh']}, {config['placement']}",
            *(
                gib_or_nothing(max(filter(None, line[peaks]), default=None))
                for peaks in ("allocator_peak_bytes", "process_peak_bytes")
            ),
            f"{line['call_ms']['median'] / config['pairs']:.0f} ms",
        )


DEMO_WAYS = {"blend": "blend", "nearest": "nearest end", "tokenizer": "tokenizer alone"}
DEMO_MEASURES = {
    "psnr": ("PSNR, dB", ".2f", (0, 1)),
    "ssim": ("SSIM", ".3f", (0, 1)),
    "sharpness": ("sharpness of moving parts", ".2f", (1,)),
    "edges_in_place": ("edges in place, moving parts", ".2f", (1,)),
}
"""What was measured, by its key: its name, the form of its numbers, which of (whole frames, moving parts) are shown.
Of a frame without contrast, such as a black one, the sharpness says nothing."""


def demo_parts() -> Iterator[str]:
    """The demo's networks on what was held out: a table a measure, a row a class, ours by number of steps."""
    every = [line for line in results("demo") if line["weights"] == results("demo")[-1]["weights"]]
    lines = {line["num_steps"]: line for line in every}
    if not lines:
        return
    one = next(iter(lines.values()))
    yield (
        f"The [demo](demo.md)'s toy networks, 192×320, float32 ({one['device']['kind'].upper()}), {one['shots']} shots"
        f" and {one['scenes']} rendered scenes that they never saw. Film is classed by the mean difference of"
        " neighbouring frames, of 255; in brackets is the number of windows. Cells: whole frames / moving parts."
        " Sharpness is the mean gradient over that of the truth; a blend shows every edge twice, and both count. Edges"
        " in place are how much of the true gradients is there where they belong.\n"
    )
    counts = sorted(lines)
    heads = (*(f"ours, {count} step{'s' * (count > 1)}" for count in counts), *DEMO_WAYS.values())
    for measure, (name, form, shown) in DEMO_MEASURES.items():
        rows = []
        for group, of_way in one[measure].items():
            ours = [lines[count][measure][group]["ours"] for count in counts]
            others = [of_way[way] for way in DEMO_WAYS]
            cells = [" / ".join(_decimal(score[i], form) for i in shown) for score in (*ours, *others)]
            rows.append((f"{group} ({one['windows'][group]})", *cells))
        yield table((name, *heads), rows)


def _decimal(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _faster(scaling: Scaling, what: str, gpus: int, form: str, unit: float) -> str:
    measured, speedups = getattr(scaling, what), scaling.speedups[what]
    if gpus not in measured:
        return ""
    beside = f" ({speedups[gpus]:.2f}×)" if gpus > 1 and gpus in speedups else ""
    return form.format(measured[gpus] / unit) + beside


def summary() -> str:
    """Return the Markdown between the marks of README.md: one table of the rows that matter most."""
    step = _newest_step()
    rows = {row[0]: row for row in (*step_rows(step["device"]["kind"]), *stage_rows())}
    picked = [_with_bits(rows[name], rows.get(f"{name}, in 8 bits")) for name in SUMMARY_ROWS if name in rows]
    shown = [*map(_beside_peer, picked), *summary_memory(), *summary_gpus()]
    head = f"{step['device']['kind']}, random weights of the real sizes, medians:\n\n"
    return head + table(("704×1280, bfloat16", "jax-interp", "PyTorch"), shown)


SUMMARY_ROWS = ("an evaluation of the 7B transformer, our attention kernel", "a whole pair")


def _with_bits(row: Row, quantized: Row | None) -> Row:
    """Return a row with what it takes in 8 bits beside it."""
    if quantized is None:
        return row
    what, ours, *peers = row
    return what, f"{ours}, in 8 bits {quantized[1].split(',')[0]}", *peers


def _beside_peer(row: Row) -> Row:
    """Return a row with its peers in one cell."""
    what, ours, eager, compiled = row
    names = {"eager": eager, "torch.compile": compiled}
    peers = ", ".join(f"{name} {found.split(' (')[0]}" for name, found in names.items() if found)
    return what.split(",")[0], ours, f"diffusers {peers}"


def summary_memory() -> Iterator[Row]:
    """The largest and the smallest way to run the 7B network."""
    stated = UPSTREAM_GB["resident"][0]
    for strategy, beside in (("resident", f"upstream states {stated} GB (another job)"), ("streamed", "")):
        lines = [m for m in memory() if (m["config"]["model"], m["config"]["strategy"]) == ("dit-7b", strategy)]
        if lines:
            took, line = lines[-1]["call_ms"]["median"] / lines[-1]["config"]["pairs"], lines[-1]
            peak, process = (gib_or_nothing(line[name]) for name in ("allocator_peak_bytes", "process_peak_bytes"))
            what = f"peak of GPU memory, every network {strategy}"
            yield what, f"{peak}, process {process}, {took:.0f} ms an evaluation", beside


def summary_gpus() -> Iterator[Row]:
    """One pair on all the GPUs that were measured."""
    scaling = read(RESULTS / "scaling.jsonl")
    if scaling is not None and scaling.most > 1:
        speedups = {gpus: scaling.speedups["pair"].get(gpus) for gpus in sorted(scaling.pair) if gpus > 1}
        said = ", ".join(f"{gpus} GPUs {times:.2f}×" for gpus, times in speedups.items() if times)
        yield f"one pair on several GPUs ({scaling.device})", said, "not possible upstream on 2 or 4"


DOCUMENTS = {ROOT / "README.md": summary, ROOT / "docs/results.md": tables}
"""The function that writes the Markdown between the marks, by file."""


def updated(text: str, content: str) -> str:
    """Return `text` with `content` between its marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{content}{END}{after}"


if __name__ == "__main__":
    for path, write in DOCUMENTS.items():
        text = updated(path.read_text(), write())
        if "--check" in sys.argv and text != path.read_text():
            sys.exit(f"{path.name} does not show benchmarks/results; run python -m scripts.update_results")
        path.write_text(text)
