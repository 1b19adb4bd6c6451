"""What is particular to each pipeline in making the files of a clip; everything else is the same for both."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jax_interp.media.pairs import iterate_pairs
from jax_interp.media.source import Picture
from jax_interp.pipeline.base import Pipeline
from jax_interp.pipeline.interpolator import Interpolator
from jax_interp.pipeline.settings import InterpolationSettings, RunSettings, Video2WorldSettings
from jax_interp.pipeline.video2world import Video2World


@dataclass(frozen=True)
class PipelineKind:
    """A pipeline, and how it takes a clip: in parts, each of which `Pipeline.stream` turns into frames."""

    pipeline: type[Pipeline]
    parts: Callable[[Iterable[Picture], Any, int], Iterator[tuple[Any, ...]]]
    """A function from the frames, the settings and the number of parts to the parts, each behind its number."""


def kind_of(settings: RunSettings) -> PipelineKind:
    """Return the facts about the pipeline that runs with `settings`."""
    return _KINDS[type(settings)]


def _pairs(
    frames: Iterable[Picture], settings: InterpolationSettings, count: int
) -> Iterator[tuple[int, Picture, Picture]]:
    return iterate_pairs(frames, settings.frame_stride, settings.frame_index_start, count)


def _last(frames: Iterable[Picture], settings: Video2WorldSettings, count: int) -> Iterator[tuple[int, np.ndarray]]:
    last = deque(frames, maxlen=settings.num_input_frames)
    for number in range(count):
        yield number, np.stack(last)


_KINDS: Mapping[type, PipelineKind] = {
    InterpolationSettings: PipelineKind(Interpolator, _pairs),
    Video2WorldSettings: PipelineKind(Video2World, _last),
}
