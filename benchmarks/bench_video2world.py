"""Peak memory of Video2World on upstream's own memory table: every strategy of its, and ours, each in a fresh process.

```
python -m benchmarks.random_networks WORK dit-7b-video2world tokenizer t5-11b pixtral-12b llama-guard-3-8b \\
    video-safety face-blur
python -m benchmarks.bench_video2world WORK [--model dit-14b-video2world]
```

A process does the job of the table, and again where networks stay on the GPU, because only a second clip finds them all
there (its sampling takes one step): a prompt is written for a picture, checked and encoded, the picture is
encoded, a clip of 121 frames at 704×1280 is sampled for a few steps with both branches of guidance, decoded and
checked. Steps do not change a peak. What random networks say of frames is replaced after they have said it, so that all
frames are looked at. Networks that the folder lacks are left out, and the line says which took part.
Peaks are the highest so far when a stage ends: JAX's allocator, and what the driver saw for the whole process.
Upstream's column is what its documentation states for this job, in GB of 10^9 bytes; where it says more than 80, the
entry is null. JAX's allocator takes memory in ever larger pieces and keeps it: on a GPU with room a process ends with
up to twice of what it uses. So a process gets no more of the GPU than the row claims to need, at once and in one piece:
what upstream states, 0.45 of it where everything is streamed, or what `generate` reserves for the budget. If that is
too little, the row is measured again with the whole GPU.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import numpy as np

from benchmarks.bench_guardrails import called_safe, few_faces
from benchmarks.measure import (
    GpuWatch,
    allocator_limit,
    allocator_peak,
    emit,
    gpu_bytes,
    in_fresh_process,
    parser,
    summary,
)
from jax_interp import Guardrails, UpsamplerSettings, Video2World, Video2WorldSettings
from jax_interp.byte_sizes import GIB, UNITS
from jax_interp.components import PLACEMENT_NAMES, TABLE
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.errors import JaxInterpError, OutOfMemory
from jax_interp.pipeline.memory.plan import PROCESS_OVERHEAD, MemoryPlan, describe
from jax_interp.pipeline.safety.video_guard import FaceGuard, FrameGuard
from jax_interp.runtime.checkpoint.finding import has_component
from jax_interp.runtime.placement import Placement

OFFLOADED, STREAMED = Placement("offloaded"), Placement("streamed")
UPSTREAM_GB: dict[str, dict[str, float | None]] = {
    "dit-7b-video2world": dict(zip(PLACEMENT_NAMES, (76.5, 59.9, 41.3, 41.1, 27.3), strict=True)),
    "dit-14b-video2world": dict(zip(PLACEMENT_NAMES, (None, 73.3, 54.8, 54.5, 39.0), strict=True)),
}
"""Upstream's peaks by the network that is offloaded beside those before it."""
STRATEGIES: dict[str, dict[str, Any]] = {
    **{
        f"+ {name}": {"placements": dict.fromkeys(PLACEMENT_NAMES[: index + 1], OFFLOADED), "upstream": name}
        for index, name in enumerate(PLACEMENT_NAMES)
    },
    "streamed": {
        "placements": {**dict.fromkeys(PLACEMENT_NAMES, STREAMED), "tokenizer": OFFLOADED},
        "upstream": PLACEMENT_NAMES[-1],
        "share": 0.45,
    },
    "budget of 8 GiB": {"budget": 8 * GIB, "upstream": PLACEMENT_NAMES[-1]},
    "budget of 10 GiB": {"budget": 10 * GIB, "upstream": PLACEMENT_NAMES[-1]},
}
STEPS = 3
TOKENS = 8
"""Tokens that the prompt upsampler writes."""
FRACTION, PREALLOCATE = LIMITING = "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE"
LARGEST_SHARE = 0.97
CONTEXT = 3 * GIB // 4
"""Bytes that a process takes beside what the allocator takes: 0.59 to 0.72 GiB on an H200."""
LIMIT = 580
"""Seconds that a process may take."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.set_defaults(model="dit-7b-video2world")
    arguments.add_argument("--frames", type=int, default=121)
    arguments.add_argument("--only", nargs="*", default=list(STRATEGIES), help="some of the strategies")
    arguments.add_argument("--child", help="run this one here")
    options = arguments.parse_args()
    if options.child:
        measure(options, options.child)
        return
    failed = []
    for name in options.only:
        shared = [str(options.work), "--model", options.model, "--height", str(options.height)]
        shared += ["--width", str(options.width), "--frames", str(options.frames), "--child", name]
        limits = dict.fromkeys((reserved(options.model, name), None))
        if not any(_run_child(shared, limit) for limit in limits):
            failed.append(name)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


def reserved(model: str, name: str) -> float | None:
    """Return the bytes of the GPU that the allocator of strategy `name` gets, all at once; None for no limit."""
    strategy = STRATEGIES[name]
    if budget := strategy.get("budget"):
        return budget - PROCESS_OVERHEAD  # as `pipeline.memory.placing.limit_process` has it
    published = UPSTREAM_GB.get(model, {}).get(strategy["upstream"])
    return published * UNITS["GB"] * strategy.get("share", 1) - CONTEXT if published else None


def _run_child(arguments: list[str], limit: float | None) -> bool:
    """Run a strategy in a process whose allocator takes `limit` bytes of the GPU; return whether it succeeded."""
    there = gpu_bytes()
    for name in LIMITING:
        os.environ.pop(name, None)
    if limit and there:
        share = min(limit / there, LARGEST_SHARE)
        os.environ |= dict(zip(LIMITING, (f"{share:.4f}", "true"), strict=True))
    else:
        os.environ[PREALLOCATE] = "false"
    return in_fresh_process("benchmarks.bench_video2world", *arguments, limit=LIMIT)


def measure(options: Any, name: str) -> None:
    """Do the job with strategy `name`, and print its seconds and memory."""
    strategy = STRATEGIES[name]
    settings = Video2WorldSettings(height=options.height, width=options.width, num_video_frames=options.frames)
    with GpuWatch() as watch, frames_are_allowed():
        world = _opened(options.work / options.model)
        plan = _plan(world, settings, strategy)
        world.place(plan.placements)
        run = Run(world, settings, options.work)
        run.everything(STEPS)
        if any(placement.stays for placement in plan.placements.values()):
            run.everything(1)
    published = UPSTREAM_GB.get(options.model, {}).get(strategy["upstream"])
    peak = watch.peak or allocator_peak()
    emit(
        "video2world_memory",
        config={
            "model": options.model,
            "strategy": name,
            "frames": options.frames,
            "height": options.height,
            "width": options.width,
        },
        weights="random",
        networks=sorted(world.placements),
        placements=describe(plan),
        preallocated=os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true") == "true",
        step_ms=summary(run.steps) if run.steps else None,
        stages=run.stages,
        allocator_peak_bytes=allocator_peak(),
        predicted_peak_bytes=plan.peak,
        allocator_limit_bytes=allocator_limit(),
        process_peak_bytes=watch.peak,
        predicted_process_bytes=plan.peak + PROCESS_OVERHEAD,
        host_bytes=plan.host,
        upstream_gb=published,
        share_of_upstream=peak / (published * UNITS["GB"]) if peak and published else None,
    )


@contextmanager
def frames_are_allowed() -> Iterator[None]:
    """Have the guardrails of frames find them safe, with few faces, after their networks have looked at them."""
    classify, detect = FrameGuard.classify, FaceGuard.detect
    with (
        patch.object(FrameGuard, "classify", lambda self, pixels: called_safe(classify(self, pixels))),
        patch.object(FaceGuard, "detect", lambda self, frames: few_faces(detect(self, frames), *frames.shape[1:3])),
    ):
        yield


def _opened(folder: Any) -> Video2World:
    guarded = any(has_component(folder, name) for name, row in TABLE.items() if row.is_guardrail)
    return Video2World.from_pretrained(
        folder,
        embedding_cache=False,
        prompt_upsampler=has_component(folder, "prompt_upsampler"),
        guardrails=Guardrails.open(folder) if guarded else False,
    )


def _plan(world: Video2World, settings: Video2WorldSettings, strategy: dict[str, Any]) -> MemoryPlan:
    planner = world.planner(settings)
    if "budget" in strategy:
        return planner.within(strategy["budget"], pairs_per_batch=1)
    return planner.plan({name: kind for name, kind in strategy["placements"].items() if name in planner.names})


@dataclass
class Run:
    """The stages of the job, each of which leaves its seconds and the allocator's peak so far."""

    world: Video2World
    settings: Video2WorldSettings
    work: Path
    """The folder of the networks, which reasons do not name."""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    """Seconds of the warm steps."""

    def everything(self, num_steps: int) -> None:
        world, settings = self.world, self.settings
        size = (settings.height, settings.width)
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        if world.prompt_upsampler is not None:
            short = UpsamplerSettings(max_new_tokens=TOKENS)
            self._stage("upsample", lambda: world.upsample_prompt(picture, short, run=settings))
        if (guardrails := world.guardrails) is not None:
            self._stage("guardrails, prompt", lambda: guardrails.check_prompt("a street in the rain"))
        text = None
        if world.text_encoder is not None:
            text = self._stage("text", lambda: world.encode_text("a street in the rain"), world.text_encoder)
        condition = self._stage(
            "encode", lambda: world.encode_condition(picture, 1, settings.num_video_frames, *size), world.codec
        )
        latents = self._stage("denoise", lambda: self._sample(condition, text, num_steps), world.denoiser)
        frames = self._stage("decode", lambda: world.decode(latents), world.codec)
        if guardrails is not None:
            self._stage("guardrails, frames", lambda: guardrails.check_video(frames, 0))

    def _sample(self, condition: Any, text: Any, num_steps: int) -> Any:
        times = [time.perf_counter()]
        negative = np.zeros((1, 512, self.world.denoiser.config.text_width), np.float32)
        latents = self.world.sampler.sample(
            condition[None],
            negative if text is None else text,
            negative,
            SampleSettings(guidance=7.0, seed=1, num_steps=num_steps),
            num_known=1,
            progress=lambda *_: times.append(time.perf_counter()),
        )
        # A step is reported one step after the device has done it; the first ones compile and read.
        self.steps += [later - earlier for earlier, later in itertools.pairwise(times)][2:]
        return latents[0]

    def _stage(self, name: str, run: Callable[[], Any], network: Any = None) -> Any:
        started = time.perf_counter()
        try:
            result = jax.block_until_ready(run())
        except OutOfMemory:
            raise
        except JaxInterpError as error:  # random weights may write or find anything; the memory is what counts
            result = None
            self.stages[f"{name}, refused"] = {"why": str(error).replace(f"{self.work}/", "")[:200]}
        self.stages[name] = {"seconds": time.perf_counter() - started, "allocator_peak_bytes": allocator_peak()}
        if network is not None:
            network.offload()
        return result


if __name__ == "__main__":
    main()
