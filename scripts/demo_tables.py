"""The tables of docs/results.md about the demo's networks."""

from collections.abc import Iterator

from scripts.result_lines import results, table

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
