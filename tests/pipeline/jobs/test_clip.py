"""How often an input is opened."""

import pytest

from jax_interp.media.reader import open_frames
from jax_interp.pipeline.jobs.clip import open_clip
from jax_interp.pipeline.jobs.job import run_job
from jax_interp.pipeline.requests import inputs as inputs_module
from jax_interp.pipeline.requests.inputs import count_parts
from tests import golden


@pytest.fixture
def opened(monkeypatch):
    """The inputs that are opened, in their order."""
    inputs = []
    monkeypatch.setattr(
        inputs_module, "open_frames", lambda paths, **how: inputs.append(paths) or open_frames(paths, **how)
    )
    inputs_module._open_unchanged.cache_clear()
    return inputs


def test_the_input_is_opened_once(interpolators, make_job, opened):
    """By whoever counts its pairs, by the door, and by the run."""
    interpolator, job = interpolators["float32"], make_job()
    assert count_parts(job) == 3
    clip = open_clip(interpolator, job)
    run_job(interpolator, job, clip=clip)
    run_job(interpolator, job)
    assert opened == [(golden.CLIP,)]
