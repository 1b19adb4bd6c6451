"""Memory of every GPU is watched, not only of the first."""

import sys
import time
from types import SimpleNamespace

from benchmarks.measure import GpuWatch, gpu_bytes


def driver(*used):
    """Stands for NVML: each GPU has `used` of its list in turn, the last value from then on."""
    left = [list(values) for values in used]

    def read(gpu):
        return SimpleNamespace(used=left[gpu].pop(0) if len(left[gpu]) > 1 else left[gpu][0], total=1000 + gpu)

    return SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(used),
        nvmlDeviceGetHandleByIndex=lambda gpu: gpu,
        nvmlDeviceGetMemoryInfo=read,
    )


def test_peaks_are_what_was_added_on_each_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", driver([5, 6, 9, 7], [100, 100, 130, 110]))
    with GpuWatch(interval=0.001) as watch:
        time.sleep(0.1)
    assert watch.peaks == [4, 30]
    assert watch.peak == 4


def test_without_a_driver_nothing_is_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with GpuWatch() as watch:
        pass
    assert watch.peaks == []
    assert watch.peak is None
    assert gpu_bytes() is None


def test_the_memory_is_that_of_the_first_visible_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", driver([0], [0]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_bytes() == 1001
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpu_bytes() == 1000
