"""Where the time of an evaluation of the transformer goes: seconds a kernel, and what clock and power the GPU runs at.

```
python -m benchmarks.profile_step WORK
python -m benchmarks.profile_step WORK --latent-frames 16        # as long as a clip of 121 frames
```

The kernels are traced twice: in a first evaluation after a pause, and in one after ten seconds of load. A GPU at its
power limit lowers its clock, and every kernel of the second trace is slower for it.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax

from benchmarks.measure import FPS, LATENT_FRAMES, emit, forward_inputs, parser, seconds
from jax_interp import Interpolator
from jax_interp.config import Quantization

LOAD_SECONDS, PAUSE_SECONDS = 10, 5
SHOWN = 24


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--quantization", choices=get_args(Quantization), default="none")
    arguments.add_argument("--latent-frames", type=int, default=LATENT_FRAMES)
    options = arguments.parse_args()
    denoiser = Interpolator.from_pretrained(
        options.work / options.model, embedding_cache=False, quantization=options.quantization
    ).denoiser
    inputs = forward_inputs(denoiser.config, 1, options.height, options.width, options.latent_frames)

    def start() -> jax.Array:
        return denoiser.net(**inputs, fps=FPS)

    def run() -> None:
        jax.block_until_ready(start())

    run()
    warm = seconds(run)
    time.sleep(PAUSE_SECONDS)
    rested = kernels(run)
    load = under_load(start, warm / 2)
    emit(
        "profile_step",
        config={"model": options.model, "height": options.height, "width": options.width}
        | {"latent_frames": options.latent_frames, "quantization": options.quantization},
        weights="random",
        rested_ms=rested,
        under_load_ms=kernels(run),
        under_load=load,
    )


def kernels(run: Callable[[], None]) -> dict[str, Any]:
    """Return the milliseconds of the longest kernels of one `run`, of all, and from the first start to the last end."""
    sums: dict[str, float] = defaultdict(float)
    starts, ends = [], []
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        for path in Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
                for line in plane.lines if "GPU" in plane.name else ():
                    for event in line.events if "Stream" in line.name else ():
                        sums[event.name[:70]] += event.duration_ns / 1e6
                        starts.append(event.start_ns)
                        ends.append(event.start_ns + event.duration_ns)
    longest = sorted(sums.items(), key=lambda entry: -entry[1])[:SHOWN]
    span = (max(ends) - min(starts)) / 1e6 if starts else None
    return {"span": span, "busy": sum(sums.values()), "kernels": dict(longest)}


def under_load(start: Callable[[], Any], until_middle: float) -> dict[str, Any]:
    """Return clock, power and their limits while the GPU works, from the driver; the median of the second half.

    `start` gives the GPU an evaluation to work on and returns what to wait for. It is in the middle of it after
    `until_middle` seconds.
    """
    try:
        import pynvml  # pyright: ignore[reportMissingImports]: of the machine with the GPU

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # no driver or no package: the result then says nothing about them
        return {}
    samples = []
    until = time.perf_counter() + LOAD_SECONDS
    while time.perf_counter() < until:
        work = start()
        time.sleep(until_middle)
        samples.append(clock_and_power(pynvml, handle))
        jax.block_until_ready(work)
    late = samples[len(samples) // 2 :]
    return {name: sorted(sample[name] for sample in late)[len(late) // 2] for name in late[0]}


def clock_and_power(nvml: Any, handle: Any) -> dict[str, Any]:
    """Return NVML's present readings of the GPU."""
    reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    return {
        "sm_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "highest_sm_mhz": nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
        "watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        "limit_watts": nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3,
        "held_back_by_power": bool(reasons & nvml.nvmlClocksEventReasonSwPowerCap),
    }


if __name__ == "__main__":
    main()
