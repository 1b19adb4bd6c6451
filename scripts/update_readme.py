"""Write the tables of README.md from benchmarks/results/, so that every number there is a line of a result file."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
GIB = 2**30


def results() -> dict[str, dict[str, Any]]:
    """The newest line of every benchmark."""
    lines = (ROOT / "benchmarks/results/full_size.jsonl").read_text().splitlines()
    return {line["benchmark"]: line for line in map(json.loads, lines)}


def tables() -> str:
    """The Markdown between the marks."""
    found = results()
    forward, pair, convert = (found[name] for name in ("dit_forward_7b", "pair_7b", "convert_full_size"))
    seconds = pair["seconds"]
    error = forward["error_against_float32"]
    rows = [
        ("one 7B forward, 10,560 tokens, warm", f"{forward['forward_ms']['median']:.0f} ms", "transformer"),
        ("its error against float32, diffusers' own = 1", f"{error['ratio']:.2f}", ""),
        ("peak device memory of the forward", f"{forward['peak_device_bytes'] / GIB:.1f} GiB", "transformer"),
        (
            "one pair from a cold start, `--offload-text-encoder-model`",
            f"{pair['wall_seconds']:.0f} s",
            ", ".join(f"{stage} {seconds[stage]:.0f} s" for stage in ("text", "encode", "denoise", "decode"))
            + "; loading and compiling included",
        ),
        (
            "its peak device memory",
            f"{pair['peak_memory_bytes']['device'] / GIB:.1f} GiB",
            "set by T5 in float32, which that option frees after the prompts",
        ),
        (
            f"`convert` of {convert['converted_bytes'] / 1e9:.0f} GB of checkpoints",
            f"{convert['wall_seconds']:.0f} s",
            f"peak host memory {convert['peak_host_bytes'] / GIB:.1f} GiB",
        ),
    ]
    versions = ", ".join(f"{name} {found}" for name, found in forward["versions"].items())
    body = "\n".join(f"| {what} | {value} | {note} |" for what, value, note in rows)
    return (
        f"{forward['device']['kind']}, 704×1280, bfloat16, random weights of the real sizes ({versions}):\n\n"
        f"| what | measured | |\n|---|---|---|\n{body}\n"
    )


def updated(readme: str) -> str:
    """`readme` with the tables between its marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables()}{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    text = updated(path.read_text())
    if "--check" in sys.argv and text != path.read_text():
        sys.exit("README.md does not show benchmarks/results; run scripts/update_readme.py")
    path.write_text(text)
