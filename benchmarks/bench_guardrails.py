"""The guardrails at their real size: a prompt, and a clip of 19 frames of 704×1280, resident and not.

```
XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks.bench_guardrails WORK [--only prompt,resident]
```

WORK is a folder in which `python -m benchmarks.random_networks WORK llama-guard-3-8b video-safety face-blur` wrote.
Each case is a process of its own. A prompt is timed with the first token of the answer and with the longest answer that
is waited for; real ones have three tokens or some more. What is not resident is read or copied anew for every prompt
and every pair, as in a run. Random networks call frames unsafe and find faces everywhere, so what they say is replaced
after they have said it: every frame is looked at, and has `FACES` faces. First times include reading the weights and
compiling, and where XLA tries out kernels it takes as much memory as it gets: XLA_PYTHON_CLIENT_MEM_FRACTION sets the
limit, which a result names. What a clip takes is to be held against what generating it takes, for which there is
`bench_pair`.
"""

import argparse
from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from benchmarks.measure import (
    GpuWatch,
    allocator_limit,
    allocator_peak,
    emit,
    in_fresh_process,
    parser,
    seconds,
    warm_ms,
)
from jax_interp.components import TABLE
from jax_interp.config import Quantization
from jax_interp.guardrails.frames.faces import AnchorOutputs, anchor_boxes, blur_faces
from jax_interp.guardrails.frames.frame_safety import CLASSES, prepare_for_classifier
from jax_interp.guardrails.text.llama_guard import ANSWER_TOKENS
from jax_interp.pipeline.memory.footprint import footprint
from jax_interp.pipeline.safety.text_guard import TextGuard
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from jax_interp.pipeline.stage_classes import STAGE_CLASSES
from jax_interp.pipeline.stages.workload import Workload
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.placement import Placement

CASES = tuple(
    f"{what},{kind}"
    for what, kinds in (
        ("prompt", ("resident", "offloaded", "streamed")),
        ("frames", ("resident", "offloaded", "streamed")),
        ("faces", ("resident", "offloaded")),
    )
    for kind in kinds
)
PROMPT_TOKENS = 512
"""The tokens of a question, which has the categories and a description of 150 words."""
PAIRS, PAIR = 2, 10
"""The number of pairs of a clip of 19 frames, and the frames of a pair; neighbouring pairs share a frame."""
FACES, REPEATS = 4, 5
PROMPT = "a quiet street in the rain at night, seen from a slowly moving car, with lamps in the puddles, " * 8

Measured = tuple[dict[str, int], dict[str, Any]]
"""(size of the input, seconds that its check took)"""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="*", default=list(CASES), choices=CASES)
    arguments.add_argument("--pairs", type=int, default=PAIRS)
    arguments.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    arguments.add_argument("--repeats", type=int, default=REPEATS)
    arguments.add_argument("--quantization", choices=get_args(Quantization), help="by default as it is stored")
    arguments.add_argument("--child", help="run this case here")
    options = arguments.parse_args()
    if options.child:
        run(options, *options.child.split(","))
        return
    shared = [str(options.work)]
    for name in ("height", "width", "pairs", "prompt_tokens", "repeats"):
        shared += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    shared += ["--quantization", options.quantization] if options.quantization else []
    for case in options.only:
        in_fresh_process("benchmarks.bench_guardrails", *shared, "--child", case, limit=900)


def run(options: argparse.Namespace, what: str, kind: str) -> None:
    """Run one case and print cold and warm times, its peak memory, and the memory that a plan predicts for it."""
    placement = Placement(kind)  # type: ignore[arg-type]
    workload = Workload(options.height, options.width, picture_patches=0)
    guard_type, measure = GUARDS[what]
    found = find_component(options.work / "shared", guard_type.COMPONENT).quantized(options.quantization)
    guard = guard_type(found)
    guard.place(placement)
    with GpuWatch() as watch:
        size, times = measure(guard, options)
        peaks = {"allocator_peak_bytes": allocator_peak(), "process_peak_bytes": watch.peak}
    peaks["memory_limit_bytes"] = allocator_limit()
    [plan_name] = TABLE[guard_type.COMPONENT].plan_names
    stage = STAGE_CLASSES[plan_name]
    predicted = footprint(stage, found.config, guard.PRECISION, workload, found.quantization).in_stage(placement)
    config = {"case": what, "placement": kind, "quantization": found.quantization, **size}
    emit("guardrails", config=config, weights="random", **times, predicted_peak_bytes=predicted, **peaks)


def prompt(guard: TextGuard, options: argparse.Namespace) -> Measured:
    """Measure a question of random tokens, whose answer always has the largest length."""
    question = np.random.default_rng(0).integers(0, guard.converted.config.vocab_size, options.prompt_tokens)

    def answer(tokens: int) -> None:
        guard.language.answer(guard.language.embed(question), max_new_tokens=tokens, stop=())
        guard.offload()

    # Where weights come over the bus for every token, the longest answer takes half a minute.
    repeats = 1 if guard.language.placement.kind == "streamed" else options.repeats
    return {"prompt_tokens": options.prompt_tokens, "new_tokens": ANSWER_TOKENS}, {
        "blocklist_first_seconds": seconds(lambda: guard.check_words(PROMPT)),
        "blocklist_ms": warm_ms(lambda: guard.check_words(PROMPT), options.repeats),
        "first_seconds": seconds(lambda: answer(1)),
        "first_token_ms": warm_ms(lambda: answer(1), options.repeats, warmup=1),
        "longest_answer_ms": warm_ms(lambda: answer(ANSWER_TOKENS), repeats, warmup=0),
    }


def frames(guard: FrameGuard, options: argparse.Namespace) -> Measured:
    """Measure the classification of a clip's frames."""
    pairs, size = _random_pairs(options)
    side, classify = guard.config.tower.image_size, guard.classify
    guard.classify = lambda pixels: called_safe(classify(pixels))  # type: ignore[method-assign]

    def look() -> None:
        for number, pair in enumerate(pairs):
            verdict, looked_at = guard.check(pair, number * (PAIR - 1))
            assert verdict.allowed
            assert looked_at == PAIR

    return size, {
        "first_seconds": seconds(look),
        "clip_ms": warm_ms(look, options.repeats),
        "of_it_resizing_ms": warm_ms(lambda: [prepare_for_classifier(pair, side) for pair in pairs], options.repeats),
    }


def faces(guard: FaceGuard, options: argparse.Namespace) -> Measured:
    """Measure the search for faces on a clip."""
    pairs, size = _random_pairs(options)
    detect = guard.detect
    guard.detect = lambda batch: few_faces(detect(batch), options.height, options.width)  # type: ignore[method-assign]
    anchors = len(anchor_boxes(options.height, options.width))
    nothing = AnchorOutputs(np.zeros((PAIR, anchors, 4), np.float32), np.zeros((PAIR, anchors), np.float32))
    said = few_faces(nothing, options.height, options.width)

    def blur() -> None:
        for pair in pairs:
            assert guard.blur(pair).num_faces == (FACES,) * PAIR

    return size | {"faces": FACES}, {
        "first_seconds": seconds(blur),
        "clip_ms": warm_ms(blur, options.repeats),
        "of_it_boxes_and_squares_ms": warm_ms(
            lambda: [blur_faces(pair, lambda _: said, batch_size=PAIR) for pair in pairs], options.repeats
        ),
    }


GUARDS: dict[str, tuple[Any, Callable[[Any, argparse.Namespace], Measured]]] = {
    "prompt": (TextGuard, prompt),
    "frames": (FrameGuard, frames),
    "faces": (FaceGuard, faces),
}


def _random_pairs(options: argparse.Namespace) -> tuple[list[np.ndarray], dict[str, int]]:
    """Return the frames of a clip's pairs, as a run gives them to the guardrails, and their size."""
    clip = {"frames": options.pairs * (PAIR - 1) + 1, "height": options.height, "width": options.width}
    levels = np.random.default_rng(0).integers(
        0, 256, (options.pairs, PAIR, options.height, options.width, 3), np.uint8
    )
    return list(levels), {"pairs": options.pairs, **clip}


def called_safe(logits: np.ndarray) -> np.ndarray:
    """Return `logits`, which differ from frame to frame, with the class of safe frames raised."""
    return logits + 1e3 * np.eye(len(CLASSES), dtype=np.float32)[0]


def few_faces(found: AnchorOutputs, height: int, width: int) -> AnchorOutputs:
    """Return `found` with faces at `FACES` anchors that do not overlap, without offsets, and none elsewhere."""
    anchors = anchor_boxes(height, width)
    apart = np.flatnonzero(np.isclose(anchors[:, 2] * width, 32))[: 8 * FACES : 8]  # 32 pixels wide, 64 pixels on
    offsets, scores = found.offsets.copy(), found.scores / 2
    offsets[:, apart], scores[:, apart] = 0, 0.9
    return AnchorOutputs(offsets, scores)


if __name__ == "__main__":
    main()
