"""A training step of the 7B transformer with random weights at 704×1280, each case in a fresh process.

```
python -m benchmarks.bench_train [--only lora peer ...] [--output FILE] [--cache FOLDER] [--steps 5] [--seconds 560]
python -m benchmarks.bench_train --tiny        # every case at toy size on the CPU, to see that it runs
```

- `forward`: a forward alone.
- `lora`, `lora-kept`, `lora-products`, `lora-streamed`: an adapter of rank 8 on queries and values; with the results
  of self-attention kept; of all products; with the network's blocks in pinned host memory.
- `full-host`, `-kept`, `-average`: the whole network with its optimizer's state in host memory (82 GiB of it; with an
  average of the weights 108); with the results of self-attention kept.
- `full-two-gpus`, `-no-average`: the whole network over two GPUs, a sample each; `full-four-gpus` and
  `full-eight-gpus` over more.
- `peer`, `peer-compiled`: the adapter by PEFT, diffusers and PyTorch (`benchmarks.training.peer`), eager and compiled.

A case is one JSON line, printed as soon as it is known. With `--output` it is also added to that file, and a case that
is there already is not run again. Nothing new is begun after `--seconds`. Compiled programs are kept in `--cache`; a
case whose programs were there says `"compile_cache": "warm"`, and its peaks are without the search for the fastest
kernels. `--twice` runs every case a second time for that. FLOP and their utilisation are as `training/flops.py` says.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import HEIGHT, WIDTH, GpuWatch

PEERS = ("peer", "peer-compiled")
JAX_CASES = (
    *("lora", "forward", "lora-kept", "lora-streamed", "lora-products", "full-host", "full-two-gpus"),
    *("full-host-average", "full-host-kept", "full-two-gpus-no-average", "full-four-gpus", "full-eight-gpus"),
)
"""The names of `training.cases.CASES`, which is not imported here because the parent process must not take the GPU."""
ORDER = ("lora", *PEERS, *JAX_CASES[1:])
"""The order of the cases: the most informative come first."""
LIMIT = {"peer-compiled": 180.0}
"""Seconds that a case may take in addition to `--limit`: two minutes of compilation, and the rest."""
HOST_GIB = {"full-host": 95, "full-host-kept": 95, "full-host-average": 124}
"""GiB of memory that XLA may pin: the state, what is in transfer, and little more, because up to this limit it
allocates ever larger blocks."""
GIB = 2**30


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="+", choices=ORDER, default=list(ORDER))
    arguments.add_argument("--output", type=Path)
    arguments.add_argument("--cache", type=Path, help="folder of compiled programs; the user's own unless given")
    arguments.add_argument("--steps", type=int, default=5, help="timed steps, after two that are not")
    arguments.add_argument("--seconds", type=float, default=float("inf"))
    arguments.add_argument("--limit", type=float, default=400, help="seconds that a case may take")
    arguments.add_argument("--twice", action="store_true")
    arguments.add_argument("--tiny", action="store_true")
    arguments.add_argument("--height", type=int, default=HEIGHT)
    arguments.add_argument("--width", type=int, default=WIDTH)
    arguments.add_argument("--child", choices=ORDER, help="run this one here")
    options = arguments.parse_args()
    if options.child:
        measure(options, options.child)
        return
    failed = run_all(options)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run_all(options: argparse.Namespace) -> list[str]:
    """Run the requested cases without a result, each in a process of its own, and return those that failed."""
    started, failed = time.monotonic(), []
    done = {(line["case"], line["tiny"]) for line in _lines(options.output)}
    for case in options.only:
        if (case, options.tiny) in done:
            print(f"{case}: is in {options.output} already", file=sys.stderr)
            continue
        for _ in range(2 if options.twice and case not in PEERS else 1):
            left = options.seconds - (time.monotonic() - started)
            if left <= 0:
                print(f"{case}: no time left", file=sys.stderr)
                continue
            print(f"[{time.monotonic() - started:.0f} s] {case}", file=sys.stderr, flush=True)
            if not run_child(options, case, min(options.limit, LIMIT.get(case, options.limit), max(left, 30))):
                failed.append(case)
                break
    return failed


def run_child(options: argparse.Namespace, case: str, limit: float) -> bool:
    """Run a case in a process of its own and store its line; return whether it succeeded."""
    command = [sys.executable, "-m", "benchmarks.bench_train", "--child", case, "--steps", str(options.steps)]
    command += ["--height", str(options.height), "--width", str(options.width)]
    command += ["--tiny"] if options.tiny else []
    try:
        environment = environment_of(options, case)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit, check=False, env=environment)
    except subprocess.TimeoutExpired:
        print(f"{case}: took more than {limit:.0f} s", file=sys.stderr)
        return False
    print(done.stdout, end="", flush=True)
    if options.output and done.returncode == 0:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with options.output.open("a") as file:
            file.write(done.stdout)
    return done.returncode == 0


def environment_of(options: argparse.Namespace, case: str) -> dict[str, str]:
    """Return the environment variables of a case's process."""
    told = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.97",
        "XLA_PJRT_GPU_HOST_MEMORY_LIMIT_GB": str(HOST_GIB.get(case, 64)),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # NVML counts GPUs in this order
        "NCCL_NVLS_ENABLE": "0",  # no multicast over NVLink: not every machine that has it lets a program use it
    }
    if options.cache:
        told["JAX_COMPILATION_CACHE_DIR"] = str(options.cache)
    if options.tiny:
        told |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    return {**told, **os.environ} if not options.tiny else {**os.environ, **told}


def measure(options: argparse.Namespace, case: str) -> None:
    """Run a case in this process and print its seconds and memory."""
    from benchmarks.training import cases

    config, size = cases.config_and_size(options.tiny, options.height, options.width)
    with GpuWatch() as watch:
        if case in PEERS:
            from benchmarks.training.peer import measure_peer

            found = measure_peer(config, size, options.steps, compiled=case == "peer-compiled")
        else:
            found = measure_ours(cases.CASES[case], config, size, options.steps)
    report(options, case, found, watch.peaks)


def measure_ours(case: Any, config: Any, size: tuple[int, int], steps: int) -> dict[str, Any]:
    """Return the seconds of every step, losses and peaks; `skipped` if there are too few devices."""
    import jax

    from benchmarks.measure import allocator_peaks
    from benchmarks.training.cases import prepare
    from jax_interp.runtime.compile_cache import enable_compile_cache

    if jax.device_count() < case.devices:
        return {"skipped": f"needs {case.devices} devices, and {jax.device_count()} is there"}
    hits: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
    enable_compile_cache()
    started = time.perf_counter()
    run = prepare(case, config, size)
    prepared = time.perf_counter() - started - run.compile_seconds
    state, losses, seconds = run.state, [], []
    run = run._replace(state=None)  # a step donates its state, so no other reference may exist
    for _ in range(steps + 2):
        started = time.perf_counter()
        state, loss = run.step(state)
        jax.block_until_ready((state, loss))
        seconds.append(time.perf_counter() - started)
        losses.append(float(loss))
    return {
        "prepare_seconds": prepared,
        "compile_seconds": run.compile_seconds + max(0.0, seconds[0] - float(np.median(seconds[2:]))),
        "first_step_seconds": seconds[0],
        "seconds": seconds[2:],
        "losses": losses,
        "allocator_peak_bytes": allocator_peaks()[: case.devices],
        "host_state_bytes": host_bytes(state),
        "program_bytes": program_bytes(run.program),
        "compile_cache": "warm" if "/jax/compilation_cache/cache_misses" not in hits else "cold",
    }


def host_bytes(state: Any) -> int:
    """Return the bytes of the state that are in pinned host memory."""
    import jax

    return sum(leaf.nbytes for leaf in jax.tree.leaves(state) if leaf.sharding.memory_kind == "pinned_host")


def program_bytes(program: Any) -> dict[str, int] | None:
    """Return the compiler's bytes of a step on a device: arguments, results that alias no arguments, temporaries."""
    analysis = program and program.memory_analysis()
    if not analysis:
        return None
    needed = {
        "arguments": analysis.argument_size_in_bytes,
        "results": analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
        "temporaries": analysis.temp_size_in_bytes,
    }
    return needed | {"sum": sum(needed.values())}


def report(options: argparse.Namespace, case: str, found: dict[str, Any], process_peaks: list[int]) -> None:
    """Print the result line of a case."""
    import jax

    from benchmarks.measure import emit
    from benchmarks.training.cases import ADAPTER, CASES, TEXT_TOKENS, Case, config_and_size, latents_shape
    from benchmarks.training.flops import forward_flops, step_flops, utilisation
    from jax_interp.runtime.mesh_shape import MeshShape
    from jax_interp.train.steps.footprint import training_footprint

    plan = CASES.get(case, Case(ADAPTER))  # the peers do the work of an adapter
    settings, rows = plan.settings, plan.settings.batch_size
    config, size = config_and_size(options.tiny, options.height, options.width)
    latents = latents_shape(config, size)
    tokens = latents[0] * latents[1] * latents[2] // config.patch_size**2
    about = {"case": case, "tiny": options.tiny, "tokens": tokens, "batch": rows, "devices": plan.devices}
    if "skipped" in found:
        emit("train", **about, skipped=found["skipped"])
        return
    seconds = found.pop("seconds")
    median = float(np.median(seconds))
    one = forward_flops(config, tokens, TEXT_TOKENS)
    flops = rows * step_flops(one, backward=plan.backward, adapter=settings.lora is not None)
    predicted = training_footprint(config, settings, latents, MeshShape(data=plan.devices))
    peaks = [peak for peak in found["allocator_peak_bytes"] if peak is not None]
    gib = max(peaks) / GIB if peaks else None
    emit(
        "train",
        **about,
        weights="random",
        dtype="bfloat16",
        median_seconds=median,
        min_seconds=min(seconds),
        steps=len(seconds),
        samples_per_second=rows / median,
        **found,
        losses_finite=bool(np.isfinite(found["losses"]).all()),
        allocator_peak_gib=gib,
        process_peak_bytes=process_peaks[: plan.devices],
        predicted_peak_bytes=predicted.peak if plan.backward and case not in PEERS else None,
        predicted_host_bytes=predicted.host if case not in PEERS else None,
        forward_tflop=one.forward / 1e12,
        model_tflop_per_step=flops / 1e12,
        model_flop_utilisation=utilisation(flops, median, jax.devices()[0].device_kind, plan.devices),
        goals=goals(plan, median, gib),
    )


def goals(plan: Any, median: float, gib: float | None) -> dict[str, Any]:
    """Return every goal of a case with the measured value, and whether it is met."""
    wanted = {"seconds": (plan.seconds, median), "gib": (plan.gib, gib)}
    return {
        name: {"at_most": most, "found": value, "met": value <= most}
        for name, (most, value) in wanted.items()
        if most is not None and value is not None
    }


def _lines(path: Path | None) -> list[dict[str, Any]]:
    """Return the cases in a file of results, except a line that was cut off and cases that were skipped."""
    if path is None or not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "skipped" not in value:
            found.append(value)
    return found


if __name__ == "__main__":
    main()
