from pathlib import Path

import pytest

from jax_interp.runtime import hardware
from jax_interp.runtime.hardware import Gpu, cuda_of_driver, host_memory, nvidia_gpus


@pytest.fixture
def smi(monkeypatch, tmp_path):
    """Puts a program called nvidia-smi on the PATH; called with the shell line that it consists of."""
    nvidia_gpus.cache_clear()

    def install(line: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    yield install
    nvidia_gpus.cache_clear()


def test_gpus_are_those_of_the_driver(smi):
    smi('printf "NVIDIA H100 80GB HBM3, 570.86.15, 81559, 80994\\nNVIDIA L4, 570.86.15, 23034, 100\\n"')
    first, second = nvidia_gpus()
    assert first == Gpu("NVIDIA H100 80GB HBM3", "570.86.15", 81559 * 2**20, 80994 * 2**20)
    assert (second.name, second.free) == ("NVIDIA L4", 100 * 2**20)


def test_gpus_that_do_not_tell_their_memory_are_left_out(smi):
    smi('printf "NVIDIA GB10, 580.95.05, [N/A], [N/A]\\nNVIDIA L4, 580.95.05, 23034, 100\\n"')
    assert [gpu.name for gpu in nvidia_gpus()] == ["NVIDIA L4"]


def test_a_driver_that_hangs_is_no_gpu(smi, monkeypatch):
    smi("exec sleep 60")
    monkeypatch.setattr(hardware, "DRIVER_TIMEOUT", 0.1)
    assert nvidia_gpus() == ()


def test_cuda_version_is_read_off_the_banner(smi):
    smi("echo '| NVIDIA-SMI 570.86.15   Driver Version: 570.86.15   CUDA Version: 12.8  |'")
    assert cuda_of_driver() == "12.8"


def test_driver_that_does_not_answer_is_no_gpu(smi):
    smi("echo 'has failed because it could not communicate with the NVIDIA driver'; exit 9")
    assert nvidia_gpus() == ()
    assert cuda_of_driver() is None


def test_no_driver_is_no_gpu(monkeypatch):
    nvidia_gpus.cache_clear()
    monkeypatch.setattr(hardware.shutil, "which", lambda name: None)
    assert nvidia_gpus() == ()
    nvidia_gpus.cache_clear()


def test_host_memory_respects_a_containers_limit(monkeypatch, tmp_path):
    files = {
        "/proc/meminfo": "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:   12000000 kB\n",
        "/sys/fs/cgroup/memory.max": "4000000000\n",
        "/sys/fs/cgroup/memory.current": "1000000000\n",
    }
    monkeypatch.setattr(Path, "exists", lambda self: str(self) in files)
    monkeypatch.setattr(Path, "read_text", lambda self: files[str(self)])
    assert host_memory() == (3_000_000_000, 4_000_000_000)
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert host_memory() == (12_000_000 * 1024, 16_000_000 * 1024)
