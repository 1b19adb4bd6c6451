"""The input of a job, which is opened and counted before any network is: imports no JAX."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jax_interp.media.destination import pictures_in
from jax_interp.media.pairs import num_pairs
from jax_interp.media.reader import open_frames
from jax_interp.media.source import FrameSource
from jax_interp.pipeline.requests.request import Job

FileState = tuple[str, int, int]
"""A file's path, its bytes, and the time of its last change, in nanoseconds."""


@dataclass(frozen=True)
class Clip:
    """The opened input of a job, and how many pairs it has."""

    source: FrameSource
    num_pairs: int


def find_clip(job: Job) -> Clip:
    """Open the input of `job`; as long as its files do not change, later calls return what the first one found.

    Raises:
        UsageError, MediaError: it is missing, damaged, or has too few frames.
    """
    try:
        source = _open_unchanged(job.inputs, input_states(job.inputs))
    except (OSError, RuntimeError, ValueError):  # a file that cannot be looked at: what is wrong is said here
        source = open_frames(job.inputs)
    asked = job.settings
    count = num_pairs(source.num_frames, asked.frame_stride, asked.frame_index_start, asked.num_frame_pairs)
    return Clip(source, count)


@lru_cache(maxsize=1024)
def _open_unchanged(inputs: tuple[Path, ...], states: tuple[FileState, ...]) -> FrameSource:
    """Open the input, once for as long as its files are in `states`, because opening reads all packets of a video."""
    del states  # a part of the key
    return open_frames(inputs)


def input_states(inputs: tuple[Path, ...]) -> tuple[FileState, ...]:
    """Return the states of the inputs, and of every picture in those that are folders; a change shows in them.

    Raises:
        OSError: one of them cannot be looked at.
    """
    resolved = [path.resolve() for path in inputs]
    files = [file for path in resolved for file in (sorted(pictures_in(path)) if path.is_dir() else [path])]
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
