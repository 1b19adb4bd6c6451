"""Jobs of the golden clip at its size, one solver step each."""

import pytest

from jax_interp.diffusion.settings import SampleSettings
from jax_interp.pipeline.requests.request import Job
from jax_interp.pipeline.settings import InterpolationSettings
from tests import golden

SETTINGS = InterpolationSettings(sampling=SampleSettings(num_steps=1), height=64, width=96)


@pytest.fixture
def make_job(tmp_path):
    def make(**changes):
        return Job(**{"inputs": (golden.CLIP,), "video": tmp_path / "out" / "film.mp4", "settings": SETTINGS} | changes)

    return make
