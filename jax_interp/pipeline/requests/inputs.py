"""The input of a job, which is opened and counted before any network is: imports no JAX."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jax_interp.media.destination import pictures_in
from jax_interp.media.last_frames import check_given
from jax_interp.media.pairs import num_pairs
from jax_interp.media.pictures.pixels import Background
from jax_interp.media.read_settings import ReadSettings
from jax_interp.media.reader import open_frames
from jax_interp.media.source import FrameSource
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings, Video2WorldSettings

FileState = tuple[str, int, int]
"""A file's path, its bytes, and the time of its last change, in nanoseconds."""


@dataclass(frozen=True)
class InputKind:
    """What a pipeline asks of an input."""

    fewest_frames: int
    """The fewest frames that it may have."""
    background: Background
    """What transparent parts are laid over."""
    count: Callable[[FrameSource, Any], int]
    """A function from a clip and the run's settings to its number of parts, which raises `UsageError` if there is
    none."""


def input_kind(settings: RunSettings) -> InputKind:
    """Return what the pipeline that runs with `settings` asks of an input."""
    return _KINDS[type(settings)]


def _count_pairs(source: FrameSource, settings: InterpolationSettings) -> int:
    return num_pairs(source.num_frames, settings.frame_stride, settings.frame_index_start, settings.num_frame_pairs)


def _check_last(source: FrameSource, settings: Video2WorldSettings) -> int:
    check_given(source.num_frames, source.height, source.width, settings.num_input_frames)
    return 1


_KINDS: Mapping[type, InputKind] = {
    InterpolationSettings: InputKind(2, "black", _count_pairs),
    # parity: upstream lays pictures over white here; animations and videos are treated as pictures are.
    Video2WorldSettings: InputKind(1, "white", _check_last),
}


def count_parts(job: Job) -> int:
    """Return how many pairs the input of `job` has; a clip that is continued has one part.

    Raises:
        UsageError, MediaError: the input is missing, damaged, or has too few frames.
    """
    return input_kind(job.settings).count(open_input(job), job.settings)


def open_input(job: Job) -> FrameSource:
    """Open the input of `job`; as long as its files do not change, later calls return what the first one found.

    Raises:
        UsageError, MediaError: it is missing, damaged, or has too few frames.
    """
    kind = input_kind(job.settings)
    how = job.reading, kind.fewest_frames, kind.background
    try:
        return _open_unchanged(job.inputs, input_states(job.inputs), *how)
    except (OSError, RuntimeError, ValueError):  # a file that cannot be looked at: what is wrong is said here
        return _open(job.inputs, *how)


@lru_cache(maxsize=1024)
def _open_unchanged(
    inputs: tuple[Path, ...],
    states: tuple[FileState, ...],
    reading: ReadSettings,
    at_least: int,
    background: Background,
) -> FrameSource:
    """Open the input, once for as long as its files are in `states`, because opening reads all packets of a video."""
    del states  # a part of the key
    return _open(inputs, reading, at_least, background)


def _open(inputs: tuple[Path, ...], reading: ReadSettings, at_least: int, background: Background) -> FrameSource:
    return open_frames(inputs, reading=reading, at_least=at_least, background=background)


def input_states(inputs: tuple[Path, ...]) -> tuple[FileState, ...]:
    """Return the states of the inputs, and of every picture in those that are folders; a change shows in them.

    Raises:
        OSError: one of them cannot be looked at.
    """
    resolved = [path.resolve() for path in inputs]
    files = [file for path in resolved for file in (sorted(pictures_in(path)) if path.is_dir() else [path])]
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
