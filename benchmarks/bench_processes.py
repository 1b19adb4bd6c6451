"""One run over two processes of a host, each with half of the GPUs; then one with a process killed, and its restart.

```
python -m benchmarks.random_networks WORK dit-7b tokenizer
python -m benchmarks.bench_processes WORK [--gpus 4] [--frame-pairs 3] [--steps 12]
```

`jax-interp generate` runs three times for the same clip: in one process with all GPUs, in two, and in two of which the
second is killed as soon as the first pair is finished, and which are then started again. Frames of the runs are
compared, in levels of 255. A result line has the seconds of the whole command, start and loading included.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measure import emit, parser

PROCESSES = 2
LIMIT = 240
"""The seconds that a command may take."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--gpus", type=int, default=4)
    arguments.add_argument("--frame-pairs", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=12)
    options = arguments.parse_args()
    clip = write_clip(options.work / "clip", options)
    results = {name: options.work / "processes" / name for name in ("one", "two", "killed")}
    shutil.rmtree(options.work / "processes", ignore_errors=True)
    seconds: dict[str, float] = {}
    seconds["one"] = finish(start(options, clip, results["one"], 1))[0]
    seconds["two"] = finish(start(options, clip, results["two"], PROCESSES))[0]
    stopped = kill_one(start(options, clip, results["killed"], PROCESSES), results["killed"])
    seconds["again"], said = finish(start(options, clip, results["killed"], PROCESSES))
    frames = {name: read_frames(folder) for name, folder in results.items()}
    emit(
        "processes",
        config={
            "model": options.model,
            "gpus": options.gpus,
            "processes": PROCESSES,
            "pairs": options.frame_pairs,
            "num_steps": options.steps,
            "height": options.height,
            "width": options.width,
            "dtype": "bfloat16",
        },
        weights="random",
        seconds=seconds,
        killed=stopped,
        went_on="going on after pair" in said,
        largest_difference={name: int(np.abs(frames[name] - frames["one"]).max()) for name in ("two", "killed")},
        mean_difference={name: float(np.abs(frames[name] - frames["one"]).mean()) for name in ("two", "killed")},
        restarted_equals_undisturbed=bool((frames["killed"] == frames["two"]).all()),
    )


def write_clip(folder: Path, options: argparse.Namespace) -> Path:
    """Write the random pictures of a clip, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for number in range(options.frame_pairs + 1):
        coarse = draw.integers(0, 256, (options.height // 16, options.width // 16, 3), np.uint8)
        Image.fromarray(coarse.repeat(16, 0).repeat(16, 1)).save(folder / f"{number:03d}.png")
    return folder


def start(options: argparse.Namespace, clip: Path, out: Path, processes: int) -> list[subprocess.Popen[str]]:
    """Start the processes of one run, each with its share of the GPUs."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        coordinator = f"127.0.0.1:{door.getsockname()[1]}"
    share = options.gpus // processes
    arguments = [
        *("--checkpoint-dir", options.work / options.model, "--input", clip, "--num-frame-pairs", options.frame_pairs),
        *("--num-steps", options.steps, "--height", options.height, "--width", options.width),
        *("--negative-prompt", "", "--disable-guardrail", "--pairs-per-batch", 1),
        *("--mesh", f"sequence={options.gpus}", "--video-save-folder", out, "--save-frames", out / "frames"),
    ]
    children = []
    for index in range(processes):
        own: list[Any] = []
        if processes > 1:
            own = ["--coordinator", coordinator, "--num-processes", processes, "--process-id", index]
            own += ["--process-timeout", 20]
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "jax_interp", "generate", *map(str, [*arguments, *own])],
                env=os.environ | environment_of(index, share),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return children


def environment_of(index: int, share: int) -> dict[str, str]:
    """Return the variables by which process `index` sees its `share` of the GPUs, or as many simulated devices."""
    told = {"CUDA_VISIBLE_DEVICES": ",".join(str(gpu) for gpu in range(index * share, (index + 1) * share))}
    told |= {"NCCL_NVLS_ENABLE": "0", "COLUMNS": "300"}
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        told["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={share}"
    return told


def finish(children: list[subprocess.Popen[str]]) -> tuple[float, str]:
    """Return the seconds until all processes have succeeded, and what the first one said."""
    started = time.perf_counter()
    said = [child.communicate(timeout=LIMIT)[0] for child in children]
    if any(child.returncode for child in children):
        sys.exit("\n".join(said))
    return time.perf_counter() - started, said[0]


def kill_one(children: list[subprocess.Popen[str]], out: Path) -> dict[str, Any]:
    """Kill the last process when a pair is finished; return how the first one then ends."""
    deadline = time.monotonic() + LIMIT
    while not list(out.glob(".*.unfinished/000000.npz")):
        if time.monotonic() > deadline or any(child.poll() is not None for child in children):
            sys.exit("\n".join(child.communicate()[0] for child in children))
        time.sleep(0.05)
    os.kill(children[-1].pid, signal.SIGKILL)
    started = time.perf_counter()
    said, *_ = [child.communicate(timeout=LIMIT)[0] for child in children]
    message = [line for line in said.splitlines() if line.startswith("error")]
    return {
        "exit_code": children[0].returncode,
        "seconds_until_the_other_ended": time.perf_counter() - started,
        "said": message[-1] if message else said[-500:],
        "video_left": bool(list(out.glob("*.mp4"))),
    }


def read_frames(folder: Path) -> np.ndarray:
    """Return the frames of a run, int16 [F, Y, X, 3]."""
    paths = sorted((folder / "frames").iterdir())
    return np.stack([np.asarray(Image.open(path)).astype(np.int16) for path in paths])


if __name__ == "__main__":
    main()
