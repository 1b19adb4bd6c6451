"""Peak memory and speed of every strategy, each in a fresh process.

```
XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks.bench_memory WORK [--model dit-14b] [--only streamed]
```

A process encodes a prompt, encodes a pair, samples a few steps for one or two pairs and decodes. Peaks are the highest
so far when a stage ends: JAX's allocator, and what the driver saw for the whole process. With `--twice` every strategy
runs twice, so that the second start finds its programs compiled: finding the fastest kernels takes memory of its own,
as much as there is.
"""

import itertools
import os
import time
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import GpuWatch, allocator_peak, emit, in_fresh_process, parser, summary
from jax_interp import Interpolator
from jax_interp.config import Quantization
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.pipeline.memory.plan import PROCESS_OVERHEAD, MemoryPlan, describe
from jax_interp.pipeline.settings import InterpolationSettings
from jax_interp.runtime.placement import Placement

OFFLOADED, STREAMED = Placement("offloaded"), Placement("streamed")
SMALL = {"text_encoder": STREAMED, "tokenizer": OFFLOADED, "diffusion_transformer": STREAMED}
STRATEGIES: dict[str, dict[str, Any]] = {
    "resident": {},
    "resident, T5 in bfloat16": {"text_encoder_dtype": "bfloat16"},
    "resident, two pairs a pass": {"placements": {"text_encoder": STREAMED}, "pairs": 2},
    "+ text encoder offloaded": {"placements": {"text_encoder": OFFLOADED}},
    "+ tokenizer offloaded": {"placements": {"text_encoder": OFFLOADED, "tokenizer": OFFLOADED}},
    "+ transformer offloaded": {"placements": dict.fromkeys(SMALL, OFFLOADED)},
    "streamed": {"placements": SMALL},
    "streamed, two pairs a pass": {"placements": SMALL, "pairs": 2},
    "budget of 6 GiB": {"budget": 6 * 2**30},
}
STEPS = 9


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="*", default=list(STRATEGIES), help="some of the strategies")
    arguments.add_argument("--quantization", choices=get_args(Quantization), help="by default as it is stored")
    arguments.add_argument("--twice", action="store_true")
    arguments.add_argument("--child", help="run this one here")
    options = arguments.parse_args()
    if options.child:
        measure(options, options.child)
        return
    for name in options.only:
        shared = [str(options.work), "--model", options.model, "--height", str(options.height)]
        shared += ["--width", str(options.width), "--child", name]
        shared += ["--quantization", options.quantization] if options.quantization else []
        for _ in range(2 if options.twice else 1):
            in_fresh_process("benchmarks.bench_memory", *shared)


def measure(options: Any, name: str) -> None:
    """Run all stages with strategy `name`, and print their seconds and memory."""
    strategy = STRATEGIES[name]
    pairs = strategy.get("pairs", 1)
    settings = InterpolationSettings(height=options.height, width=options.width, pairs_per_batch=pairs)
    with GpuWatch() as watch:
        precision = strategy.get("text_encoder_dtype", "float32")
        interpolator = Interpolator.from_pretrained(
            options.work / options.model,
            text_encoder_dtype=precision,
            embedding_cache=False,
            quantization=options.quantization,
        )
        plan = _plan(interpolator, settings, strategy)
        interpolator.place(plan.placements)
        stages, calls = _run(interpolator, settings, pairs)
    emit(
        "memory",
        config={
            "model": options.model,
            "strategy": name,
            "pairs": pairs,
            "height": options.height,
            "width": options.width,
            "text_encoder_dtype": precision,
            "quantization": interpolator.denoiser.converted.quantization,
        },
        weights="random",
        placements=describe(plan),
        compile_cache="warm" if _cached() else "cold",
        preallocated=os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true") == "true",
        call_ms=summary(calls),
        stages=stages,
        allocator_peak_bytes=allocator_peak(),
        predicted_peak_bytes=plan.peak,
        process_peak_bytes=watch.peak,
        predicted_process_bytes=plan.peak + PROCESS_OVERHEAD,
        host_bytes=plan.host,
    )


def _plan(interpolator: Interpolator, settings: InterpolationSettings, strategy: dict[str, Any]) -> MemoryPlan:
    planner = interpolator.planner(settings)
    if "budget" in strategy:
        return planner.within(strategy["budget"], pairs_per_batch=1)
    return planner.plan(strategy.get("placements", {}))


def _run(interpolator: Interpolator, settings: InterpolationSettings, pairs: int) -> tuple[dict, list[float]]:
    """Run every stage once; return seconds and the peak so far of each, and the seconds of the warm network calls."""
    stages: dict[str, dict[str, Any]] = {}

    def stage(name: str, run: Any, *networks: Any) -> Any:
        started = time.perf_counter()
        result = jax.block_until_ready(run())
        stages[name] = {"seconds": time.perf_counter() - started, "allocator_peak_bytes": allocator_peak()}
        for network in networks:
            network.offload()
        return result

    text = None
    if interpolator.text_encoder is not None:
        text = stage("text", lambda: interpolator.encode_text("a street in the rain"), interpolator.text_encoder)
    frames = np.random.default_rng(0).integers(0, 256, (2, settings.height, settings.width, 3), np.uint8)
    first, last = frames
    one = stage(
        "encode",
        lambda: interpolator.encode_pair(first, last, settings.height, settings.width),
        interpolator.codec,
    )
    times = [time.perf_counter()]
    latents = stage(
        "denoise",
        lambda: interpolator.denoiser.sample(
            jnp.stack([one] * pairs),
            text,
            text,
            SampleSettings(num_steps=STEPS),
            progress=lambda *_: times.append(time.perf_counter()),
        ),
        interpolator.denoiser,
    )
    stage("decode", lambda: interpolator.decode(latents), interpolator.codec)
    # A call is reported one call after the device has done it; the first calls compile and read.
    return stages, [later - earlier for earlier, later in itertools.pairwise(times)][3:]


_hits: list[str] = []


def _cached() -> bool:
    """Tell whether the compilation cache had this run's programs."""
    return "/jax/compilation_cache/cache_hits" in _hits and "/jax/compilation_cache/cache_misses" not in _hits


if __name__ == "__main__":
    jax.monitoring.register_event_listener(lambda event, **_: _hits.append(event))
    main()
