"""Batches of encoded samples, shuffled by the seed; the iterator's state can be saved and restored (grain)."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from jax_interp.config import DiTConfig, Precision
from jax_interp.errors import UsageError
from jax_interp.models.dit import patch_grid
from jax_interp.nn.rotary import rotary_angles
from jax_interp.train.data.encoding import Sample, load_array
from jax_interp.train.steps.step import Batch

READERS = 2
"""The number of threads that read samples ahead."""


class SampleSource:
    """grain's data source: encoded windows by number."""

    def __init__(self, samples: Sequence[Sample], config: DiTConfig, rotary_precision: Precision):
        self._samples, self._config = samples, config
        self._precision: Precision = rotary_precision
        self._angles = cache(self._angles_at)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Batch:
        """One sample, without the batch's axis."""
        sample = self._samples[index]
        latents = load_array(sample.latents, "latents")
        return Batch(latents, load_array(sample.text, "text"), self._angles(latents.shape, sample.fps))  # pyright: ignore

    def _angles_at(self, shape: tuple[int, ...], fps: float) -> np.ndarray:
        config = self._config
        grid = patch_grid((1, *shape), config.patch_size)
        return rotary_angles(grid, config.head_width, fps=fps, ratio=config.rotary_ratio, precision=self._precision)


def make_batches(source: SampleSource, batch_size: int, seed: int, steps: int) -> Any:
    """Return an iterator of at least `steps` batches, shuffled anew in every epoch.

    Its `get_state` and `set_state` are grain's. A batch may hold the end of one epoch and the start of the next.

    Raises:
        UsageError: grain is not installed.
    """
    grain = import_grain()
    passes = math.ceil(steps * batch_size / len(source))
    samples = (
        grain.MapDataset.source(source).seed(seed).shuffle().repeat(passes)
    )  # endless ones overflow grain's length
    reading = grain.ReadOptions(num_threads=READERS, prefetch_buffer_size=4 * READERS)
    return iter(samples.batch(batch_size).to_iter_dataset(reading))


def import_grain() -> Any:
    """Import grain, which comes with the extra `train`.

    Raises:
        UsageError: grain is not installed.
    """
    try:
        import grain
    except ImportError as error:
        raise UsageError('training reads its data with grain: pip install -e ".[train]" in the clone') from error
    return grain
