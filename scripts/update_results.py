"""Write the tables of docs/results.md and the one of README.md from benchmarks/results/.

So every number there is a line of a result file. A row appears when there is a result for it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.scaling.results import Scaling, read
from scripts.demo_tables import demo_parts
from scripts.memory_tables import memory_rows, summary_memory, world_parts
from scripts.network_tables import guardrail_parts, training_parts, upsampler_parts
from scripts.result_lines import (
    RESULTS,
    Row,
    by_card,
    gib_or_nothing,
    newest,
    results,
    table,
)
from scripts.step_tables import (
    ATTENTION,
    STEP_HEADS,
    TWO_BRANCHES,
    long_parts,
    newest_step,
    other_steps,
    stage_rows,
    step_rows,
    torchao_parts,
)

ROOT = Path(__file__).parents[1]
SCALING_PLOT = "scaling.png"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def tables() -> str:
    """Return the Markdown between the marks of docs/results.md."""
    step = newest_step()
    versions = ", ".join(f"{name} {found}" for name, found in step["versions"].items())
    card = step["device"]["kind"]
    parts = [
        table(STEP_HEADS, [*step_rows(card), *stage_rows(card)]),
        *other_steps(card),
        *torchao_parts(),
        *long_parts(),
        table(
            ("strategy", "peak", "planned", "process", "one evaluation, per pair", "host", "upstream states"),
            list(memory_rows()),
        ),
        table(("once", ""), list(once_rows(card))),
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


def once_rows(card: str) -> Iterator[Row]:
    """Starts and conversion on a machine with `card`."""
    for caches in ("cold", "warm"):
        if line := newest("startup", "startup", card, caches=caches):
            seconds = f"{line['first_step_seconds']:.0f} s, of which compiling {line['compile_seconds']:.1f} s"
            yield f"`generate` with {caches} caches, until the first step is done", seconds
    for line in by_card(results("parity_7b")).get(card, [])[-1:]:
        what = f"error of an evaluation against float32 over diffusers' own, {ATTENTION[line['attention']]}"
        yield what, f"{line['error_against_float32']['ratio']:.2f}"
    if convert := newest("convert", "convert_full_size", card):
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


def _faster(scaling: Scaling, what: str, gpus: int, form: str, unit: float) -> str:
    measured, speedups = getattr(scaling, what), scaling.speedups[what]
    if gpus not in measured:
        return ""
    beside = f" ({speedups[gpus]:.2f}×)" if gpus > 1 and gpus in speedups else ""
    return form.format(measured[gpus] / unit) + beside


def summary() -> str:
    """Return the Markdown between the marks of README.md: one table of the rows that matter most."""
    step = newest_step()
    card = step["device"]["kind"]
    rows = {row[0]: row for row in (*step_rows(card), *stage_rows(card))}
    picked = [_with_bits(rows[name], rows.get(f"{name}, in 8 bits")) for name in SUMMARY_ROWS if name in rows]
    shown = [*map(_beside_peer, picked), *summary_memory(), *summary_gpus()]
    head = f"{card}, random weights of the real sizes, medians:\n\n"
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
    branches = f" ({TWO_BRANCHES})" if TWO_BRANCHES in eager else ""
    return what.split(",")[0], ours, f"diffusers {peers}{branches}"


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
