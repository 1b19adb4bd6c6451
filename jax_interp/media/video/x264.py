"""Options of libx264 with which the same frames always give the same bytes.

Three things made them differ:

- Threads that share a frame. PyAV asks for these by default. libx264 then cuts every frame into as many slices as the
  machine has cores, which costs up to a tenth in size, and the slices' threads race in its plain C code. Threads that
  each take a frame of their own are exact, and their number is fixed here.
- AVX-512. Where a row of macroblocks is no multiple of 8 long (a width as 960, unlike 1280), the AVX-512 version of
  libx264's `mbtree_propagate_list` reads up to 7 entries behind the row: the next row's, and behind the last one
  whatever the memory held before. It adds them to the importance of macroblocks, from which their quality follows, so
  that two encodings of the same frames came out up to 24 of 255 apart. The AVX2 version keeps to the row.
- Matroska's random identifiers, which `VideoWriter` turns off.
"""

from pathlib import Path

THREADS = 8
"""The number of frames that are encoded at once. More would cost size, as libx264 then knows less of earlier frames."""

_AVX512, _WITHOUT_AVX512 = "avx512bw", "asm=SSE2Fast,AVX2"
"""Linux's name of AVX-512, and the option for the instructions that are used instead."""


def x264_options(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Return options for FFmpeg's libx264 and libx264rgb; empty where the processor has no AVX-512."""
    try:
        has_avx512 = _AVX512 in cpuinfo.read_text(errors="replace").split()
    except OSError:
        has_avx512 = False
    return {"x264-params": _WITHOUT_AVX512} if has_avx512 else {}
