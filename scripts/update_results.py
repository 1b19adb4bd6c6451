"""Write the tables of docs/results.md and the one of README.md from benchmarks/results/.

So every number there is a line of a result file. A row appears when there is a result for it.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.scaling_results import Line, Scaling, read
from jax_interp.byte_sizes import gib

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
SCALING_PLOT = "scaling.png"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
Row = tuple[str, ...]

UPSTREAM_GB = {
    "resident": ("59.9", "73.3"),
    "+ text encoder offloaded": ("41.3", "54.8"),
    "+ tokenizer offloaded": ("41.1", "54.5"),
    "+ transformer offloaded": ("27.3", "39.0"),
}
"""What upstream states for 7B and 14B, with prompt upsampler and guardrails offloaded: neither is in these runs."""


ATTENTION = {"own kernel": "our attention kernel", "other": "cuDNN's attention", "cudnn": "cuDNN's attention"}


def results(name: str) -> list[Line]:
    """Return the lines of one result file, oldest first; none if it does not exist."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def newest(name: str, benchmark: str, **config: Any) -> Line | None:
    """Return the newest line of `benchmark` in file `name` whose configuration has these values."""
    found = [
        line
        for line in results(name)
        if line["benchmark"] == benchmark and all(line["config"].get(key) == value for key, value in config.items())
    ]
    return found[-1] if found else None


def tables() -> str:
    """Return the Markdown between the marks of docs/results.md."""
    step = _newest_step()
    versions = ", ".join(f"{name} {found}" for name, found in step["versions"].items())
    parts = [
        _table(("warm, median", "jax-interp", "diffusers eager", "torch.compile"), [*step_rows(), *stage_rows()]),
        _table(
            ("strategy", "peak", "planned", "process", "one evaluation, per pair", "host", "upstream states"),
            list(memory_rows()),
        ),
        _table(("once", ""), list(once_rows())),
        *world_parts(),
        *upsampler_parts(),
        *guardrail_parts(),
        *training_parts(),
        *scaling_parts(read(RESULTS / "scaling.jsonl")),
        *demo_parts(),
    ]
    head = f"{step['device']['kind']}, 704×1280, bfloat16, random weights of the real sizes ({versions}).\n\n"
    return head + "\n".join(parts)


def _newest_step() -> Line:
    """Return the newest evaluation of full weights, which names the versions."""
    return [line for line in results("dit_step") if _bits(line) == ""][-1]


def _bits(line: Line) -> str:
    """Return what a row says of a line that was measured in 8 bits."""
    return "" if line["config"].get("quantization", "none") == "none" else ", in 8 bits"


def step_rows() -> Iterator[Row]:
    """An evaluation of a transformer; a row for every kernel of attention, placement and precision measured."""
    chosen: dict[tuple[str, ...], Line] = {}
    for line in results("dit_step"):
        placement = line["config"].get("placement", "resident")
        key = (
            line["config"]["model"],
            line["attention"],
            _bits(line),
            "" if placement == "resident" else f", {placement}",
        )
        beside_peers = line["peers"] or not chosen.get(key, {}).get("peers")
        if line["config"]["pairs"] == 1 and beside_peers:
            chosen[key] = line
    for (model, attention, bits, placement), line in chosen.items():
        after = line["forward_ms_after_peer"] or line["forward_ms"]
        ours = max(line["forward_ms"]["median"], after["median"])
        peers = [line["peers"].get(f"diffusers_{name}_ms") for name in ("eager", "compiled")]
        cells = [f"{peer['median']:.0f} ms ({ours / peer['median']:.2f})" if peer else "" for peer in peers]
        what = f"an evaluation of the {_size(model)} transformer, {ATTENTION[attention]}{bits}{placement}"
        peak = f", {_gib(line['allocator_peak_bytes'])}" if bits else ""
        yield what, f"{ours:.0f} ms{peak}", *cells


def stage_rows() -> Iterator[Row]:
    """The tokenizer and a whole pair, beside diffusers where it was run."""
    other = newest("pair", "pair_upstreams_way", model="dit-7b")
    pairs, quantized = _pairs(quantized=False), _pairs(quantized=True)
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
            yield f"a whole pair{_bits(line)}", f"{took:.1f} s", peer, ""


def _pairs(*, quantized: bool) -> list[Line]:
    """Return the runs of a whole pair with 7B, in 8 bits or not."""
    lines = [line for line in results("pair") if line["benchmark"] == "pair" and line["config"]["model"] == "dit-7b"]
    return [line for line in lines if bool(_bits(line)) is quantized]


def world_parts() -> Iterator[str]:
    """Video2World's memory on the job of upstream's own table, without the text networks."""
    newest_of = {line["config"]["strategy"]: line for line in results("video2world")}
    rows = [
        (
            f"{_size(line['config']['model'].removesuffix('-video2world'))}, {line['placements']}",
            _gib(line["allocator_peak_bytes"]),
            _gib(line["predicted_peak_bytes"]),
            _gib(line["process_peak_bytes"]),
            f"{line['step_ms']['median'] / 1e3:.1f} s",
            f"{line['upstream_gb']} GB",
        )
        for line in newest_of.values()
    ]
    if rows:
        heads = ("Video2World, 121 frames", "peak", "planned", "process", "a step, both branches", "upstream states")
        yield _table(heads, rows)


def memory_rows() -> Iterator[Row]:
    """Peaks and speed of every strategy."""
    lines = {(line["config"]["model"], line["config"]["strategy"], line["compile_cache"]): line for line in memory()}
    for (model, strategy, cache), line in sorted(lines.items(), key=_place_in_table):
        if cache == "cold" and (model, strategy, "warm") in lines:
            continue
        size = _size(model)
        stated = UPSTREAM_GB.get(strategy, ("", ""))[("7B", "14B").index(size)]
        yield (
            f"{size}, {strategy}{'' if 'text' in line['stages'] else ', no text stage'}"
            f"{', first start' if cache == 'cold' else ''}",
            _gib(line["allocator_peak_bytes"]),
            _gib(line["predicted_peak_bytes"]),
            _gib(line["process_peak_bytes"]),
            f"{line['call_ms']['median'] / line['config']['pairs']:.0f} ms",
            _gib(line["host_bytes"]),
            f"{stated} GB" if stated else "",
        )


def _place_in_table(entry: tuple[tuple[str, str, str], Line]) -> tuple[int, int]:
    """Return a key that sorts 7B before 14B, and the largest memory of the process first."""
    (model, _, _), line = entry
    return int(_size(model)[:-1]), -line["predicted_peak_bytes"]


def memory() -> list[Line]:
    """Return every run of `bench_memory`."""
    return [line for line in results("memory") if line["benchmark"] == "memory"]


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
            f"{convert['wall_seconds']:.0f} s, peak host memory {_gib(convert['peak_host_bytes'])}",
        )


def upsampler_parts() -> Iterator[str]:
    """The prompt upsampler beside transformers' model, and what bounds it."""
    cases = {case: newest("upsampler", "upsampler", case=case) for case in ("resident", "offloaded", "streamed")}
    peer = newest("upsampler", "upsampler_peer")
    rows = [_upsampler_row(case, line) for case, line in cases.items() if line]
    if peer:
        token = f"{peer['token_ms']['median']:.1f} ms"
        rows.append(
            (
                "transformers, static cache",
                token,
                "",
                f"{peer['encode_and_prefill_ms']:.0f} ms",
                _gib(peer["peak_bytes"]),
                "",
            )
        )
    heads = ("prompt upsampler (12B)", "a token", "weights alone", "picture and prompt", "peak", "process")
    if rows:
        yield _table(heads, rows)


def _upsampler_row(case: str, line: Line) -> Row:
    """A token cannot take less than moving the weights that it needs: from the GPU's memory, or from the host's."""
    moved, speed = (
        (line["streamed_bytes"], line["host_gb_per_s"])
        if case == "streamed"
        else (line["read_bytes"], line["memory_gb_per_s"])
    )
    token, least = line["token_ms"]["median"], moved / speed / 1e6
    start = line["encode_ms"] + line["prefill_ms"]
    bound = f"{least:.1f} ms ({100 * least / token:.0f} %)"
    peaks = (_gib(line[name]) for name in ("allocator_peak_bytes", "process_peak_bytes"))
    return case, f"{token:.1f} ms", bound, f"{start:.0f} ms", *peaks


GUARDRAILS = {"prompt": "a prompt", "frames": "what the frames of a clip show", "faces": "the faces of a clip"}
ENOUGH_REPEATS = 3


def guardrail_parts() -> Iterator[str]:
    """What the guardrails take, beside what generating the same clip takes."""
    rows = [_guardrail_row(what, kind) for what in GUARDRAILS for kind in ("resident", "offloaded", "streamed")]
    if any(rows):
        heads = ("guardrails", "time", "of generating the clip", "peak")
        yield _table(heads, [row for row in rows if row])


def _guardrail_row(what: str, kind: str) -> Row:
    """The newest memory, whose first start had no more than was planned, and the newest time of enough repeats."""
    lines = [
        line for line in results("guardrails") if (line["config"]["case"], line["config"]["placement"]) == (what, kind)
    ]
    timed = [line for line in lines if (line.get("clip_ms") or line["first_token_ms"])["repeats"] >= ENOUGH_REPEATS]
    if not timed:
        return ()
    line, name, peak = timed[-1], f"{GUARDRAILS[what]}, {kind}", _gib(lines[-1]["allocator_peak_bytes"])
    if what == "prompt":
        first, longest = (line[part]["median"] / 1e3 for part in ("first_token_ms", "longest_answer_ms"))
        tokens = line["config"]["new_tokens"]
        return name, f"{first:.2f} s to the first token, {longest:.1f} s for {tokens}", "", peak
    config, pair = line["config"], next(iter(reversed(_pairs(quantized=False))), None)
    taken = line["clip_ms"]["median"]
    share = f"{taken / (config['pairs'] * pair['pair_ms']['median']):.1%}" if pair else ""
    return f"{name}, {config['frames']} frames", f"{taken:.0f} ms", share, peak


TRAINING = {
    "forward": "a forward pass alone",
    "lora": "LoRA, base resident",
    "lora-kept": "LoRA, base resident, `--keep-activations attention`",
    "lora-products": "LoRA, base resident, `--keep-activations products`",
    "lora-streamed": "LoRA, base streamed",
    "full-host": "the whole network, optimizer in host memory",
    "full-two-gpus": "the whole network, sharded over two GPUs",
    "peer": "diffusers and PEFT, eager",
    "peer-compiled": "diffusers and PEFT, torch.compile",
}


def training_parts() -> Iterator[str]:
    """Training steps of the 7B transformer, one sample each; rows of what was measured."""
    lines = {line["case"]: line for line in results("train") if "median_seconds" in line}
    rows = [
        (
            what,
            f"{lines[case]['median_seconds']:.2f} s",
            _gib(max(lines[case]["allocator_peak_bytes"])),
            f"{100 * lines[case]['model_flop_utilisation']:.0f} %",
        )
        for case, what in TRAINING.items()
        if case in lines
    ]
    if rows:
        yield _table(
            ("a training step, 7B, rank 8 on q and v", "time", "peak of a GPU", "model FLOP utilisation"), rows
        )


def scaling_parts(scaling: Scaling | None) -> Iterator[str]:
    """Several GPUs of one host: speed, plot, memory and agreement; nothing before they were measured."""
    if scaling is None or scaling.most == 1:
        return
    heads = ("GPUs", "an evaluation of one pair", "one whole pair", f"{scaling.num_pairs} pairs")
    yield f"{scaling.device}, 7B, several in one host:\n\n" + _table(heads, list(scaling_rows(scaling)))
    if (ROOT / "docs" / SCALING_PLOT).exists():
        yield f"![Speed-up over GPUs of one host]({SCALING_PLOT})\n"
    heads = ("mesh, transformer", "peak of a GPU", "process on a GPU", "an evaluation, per pair")
    yield _table(heads, list(policy_rows(scaling)))
    yield "[Several GPUs](several-gpus.md) has the link speeds, and what follows for more GPUs and hosts.\n"
    if scaling.agreement:
        errors = scaling.agreement["errors"].items()
        ratios = [f"{name} {error['ratio']:.2f}" for name, error in errors if name != "one GPU"]
        yield f"Error of sampled latents against float32 over that of one GPU: {', '.join(ratios)}.\n"


def scaling_rows(scaling: Scaling) -> Iterator[Row]:
    """One pair and many by number of GPUs; in brackets how many times faster than one of the same host."""
    for gpus in sorted({*scaling.evaluation, *scaling.pair, *scaling.pairs}):
        times = (
            ("evaluation", "{:.0f} ms", 1.0),
            ("pair", "{:.2f} s", 1e3),
            ("pairs", "{:.1f} s", 1e3),
        )
        yield str(gpus), *(_faster(scaling, what, gpus, form, unit) for what, form, unit in times)


def policy_rows(scaling: Scaling) -> Iterator[Row]:
    """Every way to lay out the transformer over the GPUs."""
    for line in scaling.policies:
        config = line["config"]
        yield (
            f"{config['mesh']}, {config['placement']}",
            *(
                _gib(max(filter(None, line[peaks]), default=None))
                for peaks in ("allocator_peak_bytes", "process_peak_bytes")
            ),
            f"{line['call_ms']['median'] / config['pairs']:.0f} ms",
        )


DEMO_WAYS = {"blend": "blend", "nearest": "nearest end", "tokenizer": "tokenizer alone"}
DEMO_MEASURES = {
    "psnr": ("PSNR, dB", ".2f", (0, 1)),
    "ssim": ("SSIM", ".3f", (0, 1)),
    "sharpness": ("sharpness of moving parts", ".2f", (1,)),
}
"""What was measured, by its key: its name, the form of its numbers, which of (whole frames, moving parts) are shown.
Of a frame without contrast, such as a black one, the sharpness says nothing."""


def demo_parts() -> Iterator[str]:
    """The demo's networks on what was held out: a table a measure, a row a class, ours by number of steps."""
    lines = {line["num_steps"]: line for line in results("demo")}
    if not lines:
        return
    one = next(iter(lines.values()))
    yield (
        f"The [demo](demo.md)'s toy networks, 192×320, float32 ({one['device']['kind'].upper()}), {one['shots']} shots"
        f" and {one['scenes']} rendered scenes that they never saw. Film is classed by the mean difference of"
        " neighbouring frames, of 255; in brackets is the number of windows. Cells: whole frames / moving parts."
        " Sharpness is the mean gradient over that of the truth; a blend shows every edge twice, and both count.\n"
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
        yield _table((name, *heads), rows)


def _decimal(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _faster(scaling: Scaling, what: str, gpus: int, form: str, unit: float) -> str:
    measured, speedups = getattr(scaling, what), scaling.speedups[what]
    if gpus not in measured:
        return ""
    beside = f" ({speedups[gpus]:.2f}×)" if gpus > 1 and gpus in speedups else ""
    return form.format(measured[gpus] / unit) + beside


def _size(model: str) -> str:
    return model.removeprefix("dit-").upper()


def _gib(size: int | None) -> str:
    return gib(size) if size else ""


def _table(heads: Row, rows: list[Row]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def summary() -> str:
    """Return the Markdown between the marks of README.md: one table of the rows that matter most."""
    step = _newest_step()
    rows = {row[0]: row for row in (*step_rows(), *stage_rows())}
    picked = [_with_bits(rows[name], rows.get(f"{name}, in 8 bits")) for name in SUMMARY_ROWS if name in rows]
    shown = [*map(_beside_peer, picked), *summary_memory(), *summary_gpus()]
    head = f"{step['device']['kind']}, random weights of the real sizes, medians:\n\n"
    return head + _table(("704×1280, bfloat16", "jax-interp", "PyTorch"), shown)


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
            peak, process = (_gib(line[name]) for name in ("allocator_peak_bytes", "process_peak_bytes"))
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
