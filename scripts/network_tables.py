"""The tables of docs/results.md about single networks and jobs: prompt upsampler, guardrails, training."""

from collections.abc import Iterator

from benchmarks.scaling.results import Line
from scripts.result_lines import Row, bits_of, by_card, gib_or_nothing, results, table, whole_pairs

CASES = ("resident", "offloaded", "streamed")


def upsampler_parts() -> Iterator[str]:
    """The prompt upsampler beside transformers' model, and what bounds it; a table for each kind of GPU."""
    for card, lines in by_card(results("upsampler")).items():
        newest_of = {(line["config"].get("case"), bits_of(line)): line for line in lines}
        measured = [key for key in newest_of if key[0] in CASES]
        measured.sort(key=lambda key: (CASES.index(key[0]), key[1]))
        rows = [_upsampler_row(f"{case}{bits}", newest_of[case, bits]) for case, bits in measured]
        if peer := newest_of.get((None, "")):
            token, start = f"{peer['token_ms']['median']:.1f} ms", f"{peer['encode_and_prefill_ms']:.0f} ms"
            rows.append(("transformers, static cache", token, "", start, gib_or_nothing(peer["peak_bytes"]), ""))
        heads = ("a token", "weights alone", "picture and prompt", "peak", "process")
        yield table((f"prompt upsampler (12B), {card}", *heads), rows)


def _upsampler_row(name: str, line: Line) -> Row:
    """A token cannot take less than moving the weights that it needs: from the GPU's memory, or from the host's."""
    moved, speed = (
        (line["streamed_bytes"], line["host_gb_per_s"])
        if line["config"]["case"] == "streamed"
        else (line["read_bytes"], line["memory_gb_per_s"])
    )
    token, least = line["token_ms"]["median"], moved / speed / 1e6
    start = line["encode_ms"] + line["prefill_ms"]
    bound = f"{least:.1f} ms ({100 * least / token:.0f} %)"
    peaks = (gib_or_nothing(line[name]) for name in ("allocator_peak_bytes", "process_peak_bytes"))
    return name, f"{token:.1f} ms", bound, f"{start:.0f} ms", *peaks


GUARDRAILS = {"prompt": "a prompt", "frames": "what the frames of a clip show", "faces": "the faces of a clip"}
ENOUGH_REPEATS = 3


def guardrail_parts() -> Iterator[str]:
    """What the guardrails take, beside what generating the same clip takes; a table for each kind of GPU."""
    for card, lines in by_card(results("guardrails")).items():
        of_case: dict[tuple[str, str, str], list[Line]] = {}
        for line in lines:
            of_case.setdefault((line["config"]["case"], line["config"]["placement"], bits_of(line)), []).append(line)
        order = [key for what in GUARDRAILS for kind in CASES for key in sorted(of_case) if key[:2] == (what, kind)]
        rows = [
            row for what, kind, bits in order if (row := _guardrail_row(what, kind + bits, of_case[what, kind, bits]))
        ]
        yield table((f"guardrails, {card}", "time", "of generating the clip", "peak"), rows)


def _guardrail_row(what: str, how: str, lines: list[Line]) -> Row:
    """The newest memory, whose first start had no more than was planned, and the newest time of enough repeats."""
    timed = [line for line in lines if (line.get("clip_ms") or line["first_token_ms"])["repeats"] >= ENOUGH_REPEATS]
    if not timed:
        return ()
    line, name, peak = timed[-1], f"{GUARDRAILS[what]}, {how}", gib_or_nothing(lines[-1]["allocator_peak_bytes"])
    if what == "prompt":
        first, longest = (line[part]["median"] / 1e3 for part in ("first_token_ms", "longest_answer_ms"))
        tokens = line["config"]["new_tokens"]
        return name, f"{first:.2f} s to the first token, {longest:.1f} s for {tokens}", "", peak
    config, pair = line["config"], next(iter(reversed(whole_pairs(line["device"]["kind"], quantized=False))), None)
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
    "full-two-gpus": "the whole network, sharded over two GPUs, with an average of the weights",
    "full-two-gpus-no-average": "the whole network, sharded over two GPUs",
    "full-four-gpus": "the whole network, sharded over four GPUs, with an average of the weights",
    "peer": "LoRA by diffusers and PEFT, eager",
    "peer-compiled": "LoRA by diffusers and PEFT, torch.compile",
}


def training_parts() -> Iterator[str]:
    """Training steps of the 7B transformer, one sample a GPU; a table for each kind of GPU with what was measured."""
    lines = [line for line in results("train") if "median_seconds" in line]
    for card, measured in by_card(lines).items():
        of_case = {line["case"]: line for line in measured}
        rows = [
            (
                what,
                f"{of_case[case]['median_seconds']:.2f} s",
                gib_or_nothing(max(of_case[case]["allocator_peak_bytes"])),
                f"{100 * of_case[case]['model_flop_utilisation']:.0f} %",
            )
            for case, what in TRAINING.items()
            if case in of_case
        ]
        heads = (f"a training step, 7B, rank 8 on q and v, {card}", "time", "peak of a GPU", "model FLOP utilisation")
        yield table(heads, rows)
