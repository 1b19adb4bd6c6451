"""What every benchmark does: time warm repeats, watch memory from outside, print one JSON line."""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment

HEIGHT, WIDTH, FPS = 704, 1280, 24.0
LATENT_FRAMES = 3
"""The latent frames of a pair; a clip of 121 frames has 16."""


def emit(benchmark: str, **fields: Any) -> None:
    """Print one JSON line: what was measured, with what, on what."""
    print(json.dumps({"benchmark": benchmark, **environment(), **fields}), flush=True)


def warm_ms(run: Callable[[], Any], repeats: int, warmup: int = 2) -> dict[str, float]:
    """Measure the median and minimum milliseconds of `run`, which returns when its work is done."""
    for _ in range(warmup):
        run()
    return summary([seconds(run) for _ in range(repeats)])


def seconds(run: Callable[[], Any]) -> float:
    """Return the seconds that one `run` takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def summary(times: Sequence[float]) -> dict[str, float]:
    """Return the median and minimum of `times` in milliseconds, and their number."""
    return {"median": 1e3 * float(np.median(times)), "min": 1e3 * min(times), "repeats": len(times)}


def allocator_peak() -> int | None:
    """Return the peak bytes of JAX's arrays and temporaries on the first device since the process started."""
    return allocator_peaks()[0]


def allocator_peaks() -> list[int | None]:
    """Return the peak bytes of JAX's arrays and temporaries on every device."""
    import jax

    return [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]


def allocator_limit() -> int | None:
    """Return the largest number of bytes that JAX's allocator may take on the first device."""
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


class GpuWatch:
    """The peak memory that the driver (NVML) saw in use on every visible GPU meanwhile, less what was in use before.

    Only means something if nothing else runs on them. Without NVML there are no `peaks`.
    """

    def __init__(self, interval: float = 0.02):
        self._interval = interval
        self._stop = threading.Event()
        self.peaks: list[int] = []

    @property
    def peak(self) -> int | None:
        """The peak of the first GPU."""
        return self.peaks[0] if self.peaks else None

    def __enter__(self) -> "GpuWatch":
        read = memory_reader()
        if read is None:  # memory is then not watched, and the result says null
            return self
        self._used = lambda: [int(memory.used) for memory in read()]
        self._before = self._used()
        self.peaks = [0] * len(self._before)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self.peaks:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            grown = (used - before for used, before in zip(self._used(), self._before, strict=True))
            self.peaks = [max(pair) for pair in zip(self.peaks, grown, strict=True)]


def visible_gpus(count: int) -> list[int]:
    """Return the numbers of the GPUs, of `count`, that CUDA_VISIBLE_DEVICES lets a process see, in its order."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [int(gpu) for gpu in listed.split(",")] if listed else list(range(count))


def memory_reader() -> Callable[[], list[Any]] | None:
    """Return a function that reads the memory of every visible GPU from the driver (NVML); None if there is none."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]: of the machine with the GPU

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in visible_gpus(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no driver, no GPU, no package
        return None
    return lambda: [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]


def gpu_bytes() -> int | None:
    """Return the memory of the first visible GPU in bytes, without JAX, which would occupy it; None without NVML."""
    read = memory_reader()
    return int(read()[0].total) if read else None


def in_fresh_process(module: str, *arguments: str, limit: float = 300) -> bool:
    """Run `python -m module arguments` and print its stdout; return whether it succeeded."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        print(f"{' '.join(arguments)}: took more than {limit} s", file=sys.stderr)
        return False
    print(done.stdout, end="", flush=True)
    return done.returncode == 0


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Add the arguments of all benchmarks: the folder of `benchmarks.random_networks`, and which network in it."""
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("work", type=Path, help="folder that benchmarks.random_networks wrote")
    result.add_argument("--model", default="dit-7b", help="which transformer's folder in it")
    result.add_argument("--height", type=int, default=HEIGHT)
    result.add_argument("--width", type=int, default=WIDTH)
    return result


def forward_inputs(
    config: Any, rows: int, height: int, width: int, latent_frames: int = LATENT_FRAMES
) -> dict[str, Any]:
    """Return random arguments of one evaluation of the transformer for `rows` samples, float32 of bfloat16 values."""
    import ml_dtypes

    generator = np.random.default_rng(0)
    shape = (rows, latent_frames, height // 8, width // 8, config.latent_channels)
    mask = np.zeros((*shape[:4], 1), np.float32)
    mask[:, [0, -1]] = 1
    values = {
        "x": generator.standard_normal(shape),
        "c_noise": np.full(rows, 0.25),
        "text": generator.standard_normal((rows, 512, config.text_width)),
        "mask": mask,
        "padding_mask": np.zeros_like(mask),
    }
    return {name: np.asarray(value).astype(ml_dtypes.bfloat16).astype(np.float32) for name, value in values.items()}
