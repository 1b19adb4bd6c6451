"""The same frames give the same bytes: in other processes, with other rubbish in memory, on other numbers of cores."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jax_interp.media.video.writer import VideoWriter
from jax_interp.media.video.x264 import THREADS, x264_options
from tests.media import clips

SIZES = [(48, 64), (90, 160), (96, 128), (112, 176), (240, 424)]
"""Height and width; rows of 4, 10, 8, 11 and 27 macroblocks."""

OTHERS = [
    ("a.mp4", {"codec": "hevc"}),
    ("a.mkv", {"codec": "hevc", "pixel_format": "yuv420p10le"}),
    ("a.mp4", {"codec": "av1"}),
    ("a.mkv", {"codec": "av1", "pixel_format": "yuv420p10le"}),
    ("a.mov", {"codec": "prores"}),
    ("a.mkv", {"codec": "prores", "pixel_format": "yuv444p10le"}),
    ("a.mkv", {"codec": "ffv1"}),
    ("a.gif", {}),
    ("a.webp", {}),
]


def noisy(height, width, num_frames=12):
    noise = np.random.default_rng(0).normal(0, 8, (num_frames, height, width, 3))
    return np.clip(clips.waves(num_frames, height, width) + noise, 0, 255).astype(np.uint8)


def digest(path, frames, **options):
    with VideoWriter(path, 24, *frames.shape[1:3], **options) as writer:
        for frame in frames:
            writer.write(frame[None])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def encode_all(folder):
    for size in SIZES:
        print(digest(folder / "out.mp4", noisy(*size)))
    for name, options in OTHERS:
        print(digest(folder / name, noisy(240, 424), **options))


def in_a_process(tmp_path, fill, cores):
    """The digests of all sizes, from a process whose memory is filled with `fill` wherever it is taken anew."""
    environment = os.environ | {"GLIBC_TUNABLES": f"glibc.malloc.perturb={fill}"}
    code = (
        f"import os; os.sched_setaffinity(0, {cores}); from pathlib import Path;"
        f"from tests.media.video.test_reproducible_video import encode_all; encode_all(Path({str(tmp_path)!r}))"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.mark.slow
def test_processes_with_other_memory_and_cores_write_the_same_bytes(tmp_path):
    all_cores = os.sched_getaffinity(0)
    runs = [
        in_a_process(tmp_path, fill, cores) for fill, cores in [(0, all_cores), (1, all_cores), (129, {min(all_cores)})]
    ]
    assert len(runs[0]) == len(SIZES) + len(OTHERS) == len(set(runs[0]))
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("size", [(90, 160), (48, 66)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mov", {"pixel_format": "yuv444p"}),
        ("a.mkv", {"pixel_format": "yuv422p"}),
        ("a.mkv", {"codec": "libx264rgb"}),
        *OTHERS,
    ],
)
def test_every_container_and_codec_is_the_same_again(tmp_path, name, options, size):
    frames = noisy(*size)
    digests = set()
    for fill in range(4):
        rubbish = [np.full(1000 * n, 60 * fill + n % 50, np.uint8) for n in range(1, 200)]
        del rubbish
        digests.add(digest(tmp_path / name, frames, **options))
    assert len(digests) == 1


def test_the_encoder_is_told_what_makes_it_exact(tmp_path):
    digest(tmp_path / "a.mp4", noisy(96, 128))
    settings = re.search(rb"threads=(\d+).*? sliced_threads=(\d)", (tmp_path / "a.mp4").read_bytes())
    assert settings is not None
    assert settings.groups() == (str(THREADS).encode(), b"0")


def test_avx512_alone_is_left_out(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu sse2 ssse3 avx avx2 fma bmi1 bmi2 avx512f avx512bw avx512vl\n")
    assert x264_options(cpuinfo) == {"x264-params": "asm=SSE2Fast,AVX2"}
    cpuinfo.write_text("processor : 0\nflags : fpu sse2 ssse3 avx avx2 fma bmi1 bmi2\n")
    assert x264_options(cpuinfo) == {}
    assert x264_options(tmp_path / "missing") == {}
