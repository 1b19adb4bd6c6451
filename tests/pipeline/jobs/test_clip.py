"""How often an input is opened."""

import shutil

import pytest

from jax_interp.errors import MediaError
from jax_interp.media.reader import open_frames
from jax_interp.pipeline.jobs import clip as clip_module
from jax_interp.pipeline.jobs.clip import find_clip, open_clip
from jax_interp.pipeline.jobs.job import run_job
from tests import golden


@pytest.fixture
def opened(monkeypatch):
    """The inputs that are opened, in their order."""
    inputs = []
    monkeypatch.setattr(
        clip_module, "open_frames", lambda paths, *rest: inputs.append(paths) or open_frames(paths, *rest)
    )
    clip_module._open_unchanged.cache_clear()
    return inputs


def test_the_input_is_opened_once(interpolators, make_job, opened):
    """By whoever counts its pairs, by the door, and by the run."""
    interpolator, job = interpolators["float32"], make_job()
    assert find_clip(job).num_pairs == 3
    clip = open_clip(interpolator, job)
    run_job(interpolator, job, clip=clip)
    run_job(interpolator, job)
    assert opened == [(golden.CLIP,)]


def test_an_input_that_has_changed_is_opened_again(make_job, tmp_path, opened):
    clip = tmp_path / "clip.mp4"
    shutil.copy(golden.CLIP, clip)
    job = make_job(inputs=(clip,))
    assert find_clip(job).num_pairs == find_clip(job).num_pairs == 3
    clip.write_bytes(b"no video any more")
    with pytest.raises(MediaError):
        find_clip(job)
    clip.unlink()
    with pytest.raises(MediaError, match="no such file"):
        find_clip(job)
    assert len(opened) == 3
