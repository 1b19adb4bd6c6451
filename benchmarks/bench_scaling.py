"""One pair and many on several GPUs of one host, beside one GPU of the same host; each case in a fresh process.

```
python -m benchmarks.bench_scaling WORK [--gpus 1 2 4] [--only pair links agreement policies pairs video2world]
```

- `pair`: a warm evaluation while sampling, and whole pairs (encode, 36 evaluations, decode), tokens over the GPUs.
- `links`: what crosses between the GPUs in a block, by itself.
- `agreement`: sampled latents in bfloat16 against float32 on one GPU, those of every mesh beside those of one GPU.
- `policies`: a warm evaluation and memory for every way to lay out the network over the largest number of GPUs.
- `pairs`: `--pairs` pairs, every GPU with pairs of its own.
- `video2world`: a warm step of a clip of 121 frames, both guidance branches, by the network MODEL-video2world.

Processes do not preallocate, so that the driver sees what they take, and see as many GPUs as they use, the host's first
ones. Programs that they compile are kept in WORK/compile_cache. Peaks are of the whole process until the warm calls
were done. Finding the fastest kernels takes memory of its own, which a second start does not need: run `agreement`,
which compiles the same programs, before `policies`, or `policies` with `--twice`.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import GpuWatch, allocator_peaks, emit, in_fresh_process, parser, seconds, summary
from benchmarks.parity_7b import LARGEST_RATIO
from benchmarks.scaling.link_speeds import dispatch_seconds, link_speeds
from jax_interp import Interpolator, Placement, Video2World
from jax_interp.config import Quantization
from jax_interp.diffusion.settings import SampleSettings
from jax_interp.nn.attention import flash_available
from jax_interp.parity.findings import relative_error
from jax_interp.runtime.mesh_shape import MeshShape
from jax_interp.runtime.placement import RESIDENT, Kind

CALL_STEPS = 9
"""The number of steps of the sampling run whose calls are timed."""
AGREEMENT_STEPS = 4
WORLD_FRAMES, WORLD_STEPS = 121, 4
"""The frames of a clip of `video2world`, and the number of steps; the first two are not timed."""
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # NVML counts GPUs in this order
    "NCCL_NVLS_ENABLE": "0",  # no multicast over NVLink: not every machine that has it lets a program use it
}
Case = tuple[MeshShape, Kind]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4])
    arguments.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    arguments.add_argument("--pairs", type=int, default=8, help="how many pairs in `pairs`")
    arguments.add_argument("--repeats", type=int, default=2, help="whole pairs in `pair`")
    arguments.add_argument("--limit", type=float, default=540, help="seconds that a case may take")
    arguments.add_argument("--quantization", choices=get_args(Quantization), default="none")
    arguments.add_argument("--twice", action="store_true")
    arguments.add_argument("--child", nargs=2, metavar=("MESH", "PLACEMENT"), help="run this case here")
    options = arguments.parse_args()
    if options.child:
        mesh, placement = options.child
        _see_gpus(MeshShape.parse(mesh).size)
        PARTS[options.only[0]](options, MeshShape.parse(mesh), placement)
        return
    for name, value in {**ENVIRONMENT, "JAX_COMPILATION_CACHE_DIR": str(options.work / "compile_cache")}.items():
        os.environ.setdefault(name, value)
    every = [(part, *case) for part in options.only for case in cases(part, sorted(options.gpus))]
    failed = [" ".join(map(str, case)) for case in every if not _run_child(options, *case)]
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


def cases(part: str, gpus: list[int]) -> list[Case]:
    """Return the cases of `part`, each with its mesh and the placement of the transformer's weights."""
    most = gpus[-1]
    if part == "agreement":
        return [(MeshShape(sequence=most), "resident")]
    if part == "policies":
        divided: list[Case] = [(MeshShape(sequence=most), "sharded"), (MeshShape(sequence=most), "streamed")]
        return [*((mesh, RESIDENT.kind) for mesh in meshes(most)), *(divided if most > 1 else [])]
    if part == "video2world":
        shapes = [*(MeshShape(sequence=count) for count in gpus), *(MeshShape(2, count // 2) for count in gpus[1:])]
        return [(shape, RESIDENT.kind) for shape in shapes if shape.size in gpus]
    axis = "data" if part == "pairs" else "sequence"
    return [(MeshShape(**{axis: count}), RESIDENT.kind) for count in gpus]


def meshes(gpus: int) -> list[MeshShape]:
    """Return the meshes of `gpus` GPUs that are compared: along one axis, and half along each of two."""
    found = [MeshShape(sequence=gpus), MeshShape(tensor=gpus)]
    if gpus > 2 and gpus % 2 == 0:
        found += [MeshShape(data=2, sequence=gpus // 2), MeshShape(sequence=gpus // 2, tensor=2)]
    return list(dict.fromkeys(found))


def measure_pair(options: argparse.Namespace, mesh: MeshShape, placement: Kind) -> None:
    """Measure warm evaluations, then whole pairs, one at a time."""
    interpolator = measure_calls(options, mesh, placement)
    frames = _frames(options, 2)
    first = seconds(lambda: _interpolate(interpolator, options, frames))
    times, stages = [], []
    for _ in range(options.repeats):
        interpolator.timings.clear()
        times.append(seconds(lambda: _interpolate(interpolator, options, frames)))
        stages.append(dict(interpolator.timings))
    emit(
        "scaling_pair",
        config=_config(options, mesh, placement, 1),
        weights="random",
        first_seconds=first,
        pair_ms=summary(times),
        stage_seconds=stages[int(np.argmin(times))],
    )


def measure_pairs(options: argparse.Namespace, mesh: MeshShape, placement: Kind) -> None:
    """Measure many pairs, from frames in memory to frames in memory, after a short run that loads and compiles."""
    interpolator = _open(options, mesh, placement)
    warm = _frames(options, mesh.data + 1)
    _interpolate(interpolator, options, warm, num_steps=2)
    frames = _frames(options, options.pairs + 1)
    interpolator.timings.clear()
    took = seconds(lambda: _interpolate(interpolator, options, frames))
    emit(
        "scaling_pairs",
        config=_config(options, mesh, placement, options.pairs),
        weights="random",
        seconds=took,
        stage_seconds=interpolator.timings,
    )


def measure_calls(options: argparse.Namespace, mesh: MeshShape, placement: Kind) -> Interpolator:
    """Measure warm evaluations of as many pairs as the mesh takes, and memory; the tokenizer takes no part."""
    with GpuWatch() as watch:
        interpolator = _open(options, mesh, placement)
        condition = _condition(interpolator, options, mesh.data)
        interpolator.denoiser.sample(condition, None, None, SampleSettings(num_steps=2))
        times = [time.perf_counter()]
        interpolator.denoiser.sample(
            condition,
            None,
            None,
            SampleSettings(num_steps=CALL_STEPS),
            progress=lambda *_: times.append(time.perf_counter()),
        )
        peaks = allocator_peaks()[: mesh.size]
    # A call is reported one call after the device has done it.
    calls = [later - earlier for earlier, later in itertools.pairwise(times)][2:]
    emit(
        "scaling_step",
        config=_config(options, mesh, placement, mesh.data),
        weights="random",
        attention="own kernel" if flash_available() else "other",
        compile_cache="warm" if _cached() else "cold",
        call_ms=summary(calls),
        allocator_peak_bytes=peaks,
        process_peak_bytes=watch.peaks[: mesh.size],
    )
    return interpolator


def measure_video2world(options: argparse.Namespace, mesh: MeshShape, placement: Kind) -> None:
    """Measure warm steps of Video2World with both branches, which are side by side where the mesh has `data`."""
    with GpuWatch() as watch:
        world = Video2World.from_pretrained(
            options.work / f"{options.model}-video2world",
            mesh=mesh,
            embedding_cache=False,
            quantization=options.quantization,
        )
        world.denoiser.place(Placement(placement))
        shape = 1 + (WORLD_FRAMES - 1) // 8, options.height // 8, options.width // 8, 16
        condition = jnp.asarray(np.random.default_rng(0).standard_normal((1, *shape)), jnp.float32)
        text = np.zeros((1, 512, world.denoiser.config.text_width), np.float32)
        times = [time.perf_counter()]
        world.sampler.sample(
            condition,
            text,
            text,
            SampleSettings(guidance=7.0, num_steps=WORLD_STEPS),
            num_known=1,
            progress=lambda *_: times.append(time.perf_counter()),
        )
        peaks = allocator_peaks()[: mesh.size]
    # A step is reported one step after the device has done it; the first ones compile and read.
    steps = [later - earlier for earlier, later in itertools.pairwise(times)][2:]
    emit(
        "scaling_video2world",
        config=_config(options, mesh, placement, 1) | {"frames": WORLD_FRAMES, "branches": 2},
        weights="random",
        step_ms=summary(steps),
        allocator_peak_bytes=peaks,
        process_peak_bytes=watch.peaks[: mesh.size],
    )


def measure_agreement(options: argparse.Namespace, mesh: MeshShape, _: Kind) -> None:
    """Compare the sampled latents of every mesh of that size and of one GPU in bfloat16 with one GPU in float32."""
    layouts: list[Case] = [(MeshShape(), "resident"), *((shape, "resident") for shape in meshes(mesh.size))]
    layouts.append((mesh, "sharded"))

    def latents(layout: MeshShape, placement: Kind, **precision: Any) -> np.ndarray:
        interpolator = _open(options, layout, placement, **precision)
        condition = _condition(interpolator, options, 1)
        sampled = interpolator.denoiser.sample(condition, None, None, SampleSettings(num_steps=AGREEMENT_STEPS))
        interpolator.unload()
        return np.asarray(sampled)[:, 1:-1]  # the latents at the ends are given

    # Angles are rounded as in the other runs, so that only the order and rounding of sums differ.
    oracle = latents(MeshShape(), "resident", dtype="float32", rotary_precision="bfloat16")
    sampled = {_named(*layout): latents(*layout) for layout in layouts}
    alone = sampled[_named(MeshShape())]
    own = relative_error(alone, oracle)
    errors = {
        name: {
            "against_float32": relative_error(ours, oracle),
            "against_one_gpu": relative_error(ours, alone),
            "ratio": relative_error(ours, oracle) / own,
        }
        for name, ours in sampled.items()
    }
    emit("scaling_agreement", config=_config(options, mesh, "resident", 1), weights="random", errors=errors)
    assert all(error["ratio"] <= LARGEST_RATIO for error in errors.values()), errors


def measure_links(options: argparse.Namespace, mesh: MeshShape, placement: Kind) -> None:
    """Measure speeds and latencies between the GPUs, and the cost of a program that does nothing."""
    denoiser = _open(options, mesh, placement).denoiser
    emit(
        "scaling_links",
        config=_config(options, mesh, placement, 0),
        dispatch_seconds=dispatch_seconds(denoiser.devices),
        links=link_speeds(denoiser, options.height, options.width) if mesh.size > 1 else {},
    )


def _run_child(options: argparse.Namespace, part: str, mesh: MeshShape, placement: Kind) -> bool:
    """Run a case in a process of its own, and return whether it succeeded."""
    shared = [str(options.work), "--model", options.model, "--height", str(options.height)]
    shared += ["--width", str(options.width), "--pairs", str(options.pairs), "--repeats", str(options.repeats)]
    shared += ["--quantization", options.quantization]
    shared += ["--only", part, "--child", str(mesh), placement]
    times = 2 if options.twice and part == "policies" else 1
    return all(in_fresh_process("benchmarks.bench_scaling", *shared, limit=options.limit) for _ in range(times))


def _see_gpus(count: int) -> None:
    """Make `count` GPUs visible to this process, before JAX queries them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(gpu) for gpu in range(count)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[:count])


def _open(options: argparse.Namespace, mesh: MeshShape, placement: Kind, **precision: Any) -> Interpolator:
    interpolator = Interpolator.from_pretrained(
        options.work / options.model,
        mesh=mesh,
        embedding_cache=False,
        **{"quantization": options.quantization, **precision},
    )
    interpolator.denoiser.place(Placement(placement))
    return interpolator


def _interpolate(interpolator: Interpolator, options: argparse.Namespace, frames: np.ndarray, **settings: Any) -> None:
    # An empty negative prompt is the all-zero embedding, so there is no text stage.
    interpolator.interpolate(frames, negative_prompt="", height=options.height, width=options.width, **settings)


def _frames(options: argparse.Namespace, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, options.height, options.width, 3), np.uint8)


def _condition(interpolator: Interpolator, options: argparse.Namespace, pairs: int) -> jax.Array:
    shape = interpolator.check_size(options.height, options.width)
    return jnp.asarray(np.random.default_rng(0).standard_normal((pairs, *shape)), jnp.float32)


def _config(options: argparse.Namespace, mesh: MeshShape, placement: Kind, pairs: int) -> dict[str, Any]:
    return {
        "model": options.model,
        "gpus": mesh.size,
        "mesh": _named(mesh),
        "placement": placement,
        "pairs": pairs,
        "height": options.height,
        "width": options.width,
        "dtype": "bfloat16",
        "quantization": options.quantization,
    }


def _named(mesh: MeshShape, placement: Kind = "resident") -> str:
    """Return the axes with more than one device, and the placement if it is not resident."""
    axes = [f"{axis}={size}" for axis, size in vars(mesh).items() if size > 1]
    return (",".join(axes) or "one GPU") + ("" if placement == "resident" else f" {placement}")


_hits: list[str] = []


def _cached() -> bool:
    """Tell whether the compilation cache had this run's programs."""
    return "/jax/compilation_cache/cache_hits" in _hits and "/jax/compilation_cache/cache_misses" not in _hits


PARTS: dict[str, Callable[[argparse.Namespace, MeshShape, Kind], Any]] = {
    "pair": measure_pair,
    "links": measure_links,
    "agreement": measure_agreement,
    "policies": measure_calls,
    "pairs": measure_pairs,
    "video2world": measure_video2world,
}


if __name__ == "__main__":
    jax.monitoring.register_event_listener(lambda event, **_: _hits.append(event))
    main()
