"""Every benchmark of the README, one after the other, on one GPU, `scaling` on up to four; JSON lines go to RESULTS.

```
python -m benchmarks.random_networks WORK dit-7b tokenizer t5-11b       # and dit-14b, pixtral-12b, ...
python -m benchmarks.run_all WORK RESULTS [--only dit_step memory] [--seconds 600]
python -m benchmarks.run_all WORK RESULTS --only scaling                # on a host with four GPUs
```

WORK wants 25 GB with the 7B networks and 54 GB with the 14B ones. Nothing new is begun after `--seconds`. A file of
results has the name of its benchmark; lines are added at its end.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCHMARKS: list[tuple[str, str, list[str]]] = [
    ("dit_step", "bench_dit_step", ["--peer", "diffusers"]),
    ("memory", "bench_memory", ["--only", "streamed", "--twice"]),
    ("memory", "bench_memory", ["--only", "streamed, two pairs a pass", "--twice"]),
    ("memory", "bench_memory", ["--only", "budget of 6 GiB"]),
    ("pair", "bench_pair", ["--peer", "diffusers"]),
    ("tokenizer", "bench_tokenizer", []),
    ("parity_7b", "parity_7b", []),
    ("startup", "bench_startup", []),
    ("memory", "bench_memory", ["--only", "resident", "resident, T5 in bfloat16"]),
    ("memory", "bench_memory", ["--only", "+ text encoder offloaded", "+ tokenizer offloaded"]),
    ("memory", "bench_memory", ["--only", "+ transformer offloaded", "resident, two pairs a pass"]),
    ("profile", "profile_step", []),
    ("fp8", "fp8_product", []),
    ("upsampler", "bench_upsampler", ["--peer", "--only", "resident"]),
    ("upsampler", "bench_upsampler", ["--only", "streamed", "--tokens", "24"]),
    ("guardrails", "bench_guardrails", []),
    ("memory-14b", "bench_memory", ["--model", "dit-14b", "--only", "streamed", "--twice"]),
    ("memory-14b", "bench_memory", ["--model", "dit-14b", "--only", "streamed, two pairs a pass", "--twice"]),
    ("memory-14b", "bench_memory", ["--model", "dit-14b", "--only", "+ text encoder offloaded"]),
    ("scaling", "bench_scaling", ["--only", "pair"]),
    ("scaling", "bench_scaling", ["--only", "links"]),
    ("scaling", "bench_scaling", ["--only", "agreement"]),
    ("scaling", "bench_scaling", ["--only", "policies"]),
    ("scaling", "bench_scaling", ["--only", "pairs"]),
]
"""(file of results, module, arguments), the most informative first."""
SHARED = {"upsampler": "Pixtral-12B", "guardrails": "meta-llama"}
"""Networks that some benchmarks need beside the usual ones; these run only where the networks were written."""
SEVERAL_GPUS = "scaling"
"""The benchmark that runs only if it is named."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("work", type=Path)
    arguments.add_argument("results", type=Path)
    arguments.add_argument("--only", nargs="*", choices=sorted({name for name, _, _ in BENCHMARKS}))
    arguments.add_argument("--seconds", type=float, default=float("inf"))
    options = arguments.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        run(options, cache)


def run(options: argparse.Namespace, cache: str) -> None:
    """Run the requested benchmarks, which share the compiled programs in `cache`."""
    environment = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    started = time.perf_counter()
    for name, module, flags in BENCHMARKS:
        wanted = name in options.only if options.only else name != SEVERAL_GPUS
        if not wanted or time.perf_counter() - started > options.seconds:
            continue
        if "--model" in flags and not (options.work / "dit-14b").exists():
            continue
        if name in SHARED and not (options.work / "shared" / SHARED[name]).exists():
            continue
        print(f"[{time.perf_counter() - started:.0f} s] {module} {' '.join(flags)}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"benchmarks.{module}", str(options.work), *flags]
        with (options.results / f"{name.removesuffix('-14b')}.jsonl").open("a") as out:
            subprocess.run(command, stdout=out, env={**os.environ, **environment}, check=False)


if __name__ == "__main__":
    main()
