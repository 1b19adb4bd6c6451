"""Seconds from the start of a process to the first denoising step, cold and warm, and how many of them compile.

```
python -m benchmarks.bench_startup WORK
```

Two fresh processes share empty caches of compiled programs and encoded prompts: the first one fills them.
"""

import os
import tempfile
import time
from pathlib import Path

from benchmarks.measure import emit, in_fresh_process, parser

STEPS = 4


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--child", choices=["cold", "warm"])
    arguments.add_argument("--started", type=float)
    options = arguments.parse_args()
    if options.child:
        measure(options.work / options.model, options.child, options.started, options.height, options.width)
        return
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
        for which in ("cold", "warm"):
            started = str(time.time())
            shared = [str(options.work), "--model", options.model, "--height", str(options.height)]
            shared += ["--width", str(options.width)]
            in_fresh_process("benchmarks.bench_startup", *shared, "--child", which, "--started", started)


def measure(folder: Path, which: str, started: float, height: int, width: int) -> None:
    """Measure one start as `jax-interp generate` makes it, with all networks resident after the text stage."""
    import jax
    import numpy as np

    from jax_interp import Interpolator
    from jax_interp.diffusion.settings import SampleSettings
    from jax_interp.pipeline.settings import InterpolationSettings
    from jax_interp.runtime.compile_cache import enable_compile_cache
    from jax_interp.runtime.placement import Placement

    durations: dict[str, float] = {}

    def count(event: str, duration_secs: float, **kwargs: str | int) -> None:
        durations[event] = durations.get(event, 0.0) + duration_secs

    jax.monitoring.register_event_duration_secs_listener(count)
    enable_compile_cache()
    interpolator = Interpolator.from_pretrained(folder)
    interpolator.place({"text_encoder": Placement("offloaded")})
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    settings = InterpolationSettings(sampling=SampleSettings(num_steps=STEPS), height=height, width=width)
    reached: list[float] = []
    pairs = interpolator.stream(
        [(0, frames[0], frames[1])], settings, lambda pair, done, total: reached.append(time.time() - started)
    )
    for _ in pairs:
        pass
    emit(
        "startup",
        config={"model": folder.name, "height": height, "width": width, "caches": which},
        weights="random, in the operating system's file cache",
        # A step is reported when the device has the next step to work on.
        first_step_seconds=reached[1],
        finished_seconds=time.time() - started,
        stage_seconds=dict(interpolator.timings),
        compile_seconds=durations.get("/jax/core/compile/backend_compile_duration", 0.0),
        trace_seconds=durations.get("/jax/core/compile/jaxpr_trace_duration", 0.0)
        + durations.get("/jax/core/compile/jaxpr_to_mlir_module_duration", 0.0),
    )


if __name__ == "__main__":
    main()
