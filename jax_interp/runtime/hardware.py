"""The GPUs and the memory of this machine, queried without starting JAX."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DRIVER_TIMEOUT = 20
"""Seconds that the driver may take to answer."""


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU as its driver describes it; memory is in bytes."""

    name: str
    driver: str
    memory: int
    free: int


@cache
def nvidia_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that NVIDIA's driver lists; none without a driver, or where it does not report their memory."""
    fields = "name,driver_version,memory.total,memory.free"
    rows = _nvidia_smi(f"--query-gpu={fields}", "--format=csv,noheader,nounits").strip().splitlines()
    gpus = []
    for row in rows:
        name, driver, memory, free = (part.strip() for part in row.split(","))
        if memory.isdecimal() and free.isdecimal():  # GPUs that share the host's memory say [N/A]
            gpus.append(Gpu(name, driver, int(memory) * 2**20, int(free) * 2**20))
    return tuple(gpus)


def cuda_of_driver() -> str | None:
    """Return the newest CUDA version that the driver supports, as "12.8"; None without a driver."""
    found = re.search(r"CUDA Version:\s*([\d.]+)", _nvidia_smi())
    return found[1] if found else None


def _nvidia_smi(*options: str) -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *options], capture_output=True, text=True, timeout=DRIVER_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):  # a driver that hangs: JAX will say so better
        return ""
    return done.stdout if done.returncode == 0 else ""


def host_memory() -> tuple[int, int]:
    """Return the free and total bytes of host memory, of the container if it has a limit."""
    pages = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE))
    free, total = int(pages["MemAvailable"]) * 1024, int(pages["MemTotal"]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and limit.read_text().strip().isdigit():
        allowed = int(limit.read_text())
        return min(free, allowed - int(used.read_text())), min(total, allowed)
    return free, total
