"""When an input is opened again."""

import shutil

import pytest

from jax_interp.errors import MediaError
from jax_interp.media.reader import open_frames
from jax_interp.pipeline.requests import inputs as inputs_module
from jax_interp.pipeline.requests.inputs import count_parts
from jax_interp.pipeline.requests.request import Job
from tests import golden


def test_an_input_that_has_changed_is_opened_again(tmp_path, monkeypatch):
    clip = tmp_path / "clip.mp4"
    shutil.copy(golden.CLIP, clip)
    opened = []
    monkeypatch.setattr(
        inputs_module, "open_frames", lambda paths, **how: opened.append(paths) or open_frames(paths, **how)
    )
    job = Job(inputs=(clip,), video=tmp_path / "film.mp4")
    assert count_parts(job) == count_parts(job) == 3
    clip.write_bytes(b"no video any more")
    with pytest.raises(MediaError):
        count_parts(job)
    clip.unlink()
    with pytest.raises(MediaError, match="no such file"):
        count_parts(job)
    assert len(opened) == 3
