"""The guardrails at their real size: a prompt, and a clip of 19 frames of 704×1280, resident and not.

```
XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks.bench_guardrails WORK [--only "prompt, resident"]
```

WORK is a folder in which `python -m benchmarks.random_networks WORK llama-guard-3-8b video-safety face-blur` wrote.
Each case is a process of its own. A prompt is timed with the longest answer that is waited for (real ones have three
tokens or some more) and with the first token alone; what is not resident is read anew for every prompt, as in a run.
Random networks call frames unsafe and find faces everywhere, so what they say is replaced after they have said it:
every frame is looked at, and has `FACES` faces. First times include reading the weights and compiling.
"""

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.measure import GpuWatch, allocator_peak, emit, in_fresh_process, parser, seconds, warm_ms
from jax_interp.guardrails.faces import Found, anchor_boxes, blur_faces
from jax_interp.guardrails.frame_safety import CLASSES, check_frames, prepare_frames
from jax_interp.guardrails.llama_guard import ANSWER_TOKENS
from jax_interp.pipeline.text_guard import TextGuard
from jax_interp.pipeline.video_guard import FaceGuard, FrameGuard
from jax_interp.runtime.checkpoint import find_component
from jax_interp.runtime.placement import Placement

CASES = tuple(f"{what}, {kind}" for what in ("prompt", "clip") for kind in ("resident", "streamed", "offloaded"))
PROMPT_TOKENS = 512
"""Of a question: the categories, and a description of 150 words."""
FRAMES, FACES, REPEATS = 19, 4, 3
PROMPT = "a quiet street in the rain at night, seen from a slowly moving car, with lamps in the puddles, " * 8


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="*", default=list(CASES), choices=CASES)
    arguments.add_argument("--frames", type=int, default=FRAMES)
    arguments.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    arguments.add_argument("--repeats", type=int, default=REPEATS)
    arguments.add_argument("--child", help="run this case here")
    options = arguments.parse_args()
    if options.child:
        measure(options, *options.child.split(", "))
        return
    shared = [str(options.work)]
    for name in ("height", "width", "frames", "prompt_tokens", "repeats"):
        shared += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    for case in options.only:
        in_fresh_process("benchmarks.bench_guardrails", *shared, "--child", case, limit=900)


def measure(options: argparse.Namespace, what: str, kind: str) -> None:
    """One case: cold and warm times, and the most memory that it took."""
    placement = Placement(kind)  # type: ignore[arg-type]
    with GpuWatch() as watch:
        times = (_prompt if what == "prompt" else _clip)(options, placement)
        peaks = {"allocator_peak_bytes": allocator_peak(), "process_peak_bytes": watch.peak}
    sizes = {"prompt_tokens": options.prompt_tokens, "new_tokens": ANSWER_TOKENS}
    if what == "clip":
        sizes = {"frames": options.frames, "height": options.height, "width": options.width, "faces": FACES}
    emit("guardrails", config={"case": what, "placement": kind, **sizes}, weights="random", **times, **peaks)


def _prompt(options: argparse.Namespace, placement: Placement) -> dict[str, object]:
    guard = TextGuard(find_component(options.work / "shared", "text_safety"))
    guard.place(placement)
    generator = np.random.default_rng(0)
    question = generator.integers(0, guard.found.config.vocab_size, options.prompt_tokens)

    def answer(tokens: int) -> None:
        guard.language.answer(guard.language.embed(question), max_new_tokens=tokens, stop=())
        guard.rest()

    return {
        "blocklist_first_seconds": seconds(lambda: guard.check_words(PROMPT)),
        "blocklist_ms": warm_ms(lambda: guard.check_words(PROMPT), options.repeats),
        "first_seconds": seconds(lambda: answer(ANSWER_TOKENS)),
        "longest_answer_ms": warm_ms(lambda: answer(ANSWER_TOKENS), options.repeats, warmup=0),
        "first_token_ms": warm_ms(lambda: answer(1), options.repeats),
    }


def _clip(options: argparse.Namespace, placement: Placement) -> dict[str, object]:
    root = options.work / "shared"
    frame_guard = FrameGuard(find_component(root, "video_safety"))
    face_guard = FaceGuard(find_component(root, "face_blur"))
    for guard in (frame_guard, face_guard):
        guard.place(placement)
    side = frame_guard.config.tower.image_size
    size = options.height, options.width
    frames = np.random.default_rng(0).integers(0, 256, (options.frames, *size, 3), np.uint8)

    def look() -> None:
        verdict = check_frames(frames, lambda pixels: _called_safe(frame_guard.classify(pixels)), side)
        frame_guard.rest()
        assert verdict.allowed

    def blur() -> None:
        blurred = blur_faces(frames, _with_few_faces(face_guard.detect, size))
        face_guard.rest()
        assert blurred.num_faces == (FACES,) * len(frames)

    return {
        "frame_safety_first_seconds": seconds(look),
        "faces_first_seconds": seconds(blur),
        "frame_safety_ms": warm_ms(look, options.repeats),
        "of_it_resizing_ms": warm_ms(lambda: prepare_frames(frames, side), options.repeats),
        "faces_ms": warm_ms(blur, options.repeats),
    }


def _called_safe(logits: np.ndarray) -> np.ndarray:
    """As many logits as were given, of frames that are safe."""
    return np.tile(np.eye(len(CLASSES), dtype=np.float32)[0], (len(logits), 1))


def _with_few_faces(detect: Callable[[np.ndarray], Found], size: tuple[int, int]) -> Callable[[np.ndarray], Found]:
    """`detect` with other results: `FACES` anchors that do not overlap, without offsets."""
    anchors = anchor_boxes(*size)
    wide = np.flatnonzero(np.isclose(anchors[:, 2] * size[1], 32))  # as far apart as they are wide, four cells on
    scores = np.zeros(len(anchors), np.float32)
    scores[wide[: 8 * FACES : 8]] = 0.9

    def few(frames: np.ndarray) -> Found:
        found = detect(frames)
        return Found(np.zeros_like(found.offsets), np.broadcast_to(scores, found.scores.shape))

    return few


if __name__ == "__main__":
    main()
