"""`Interpolator.interpolate_clip`: the frames that the command writes, one after the other."""

from fractions import Fraction

import numpy as np
import pytest

from jax_interp import Aspect, InterpolationSettings, SampleSettings, Size, Timeline
from jax_interp.errors import MediaError, UsageError
from jax_interp.media.reader import open_frames
from jax_interp.pipeline.jobs.job import run_job
from jax_interp.pipeline.requests.request import Job
from tests.media import film_clips

SETTINGS = InterpolationSettings(sampling=SampleSettings(num_steps=1), height=64, width=96)


@pytest.fixture
def interpolator(interpolators):
    return interpolators["float32"]


@pytest.fixture
def film(tmp_path):
    return film_clips.write_film(tmp_path / "film.mp4", film_clips.with_cut(6, 3, 60, 80), None)


def test_it_gives_what_a_job_writes(interpolator, film, tmp_path):
    timeline = Timeline(rate=50)
    clip = interpolator.interpolate_clip(film, timeline, SETTINGS)
    assert (clip.rate, clip.num_frames, clip.height, clip.width) == (50, 13, 64, 86)
    frames = list(clip)
    assert len(frames) == 13
    job = Job(
        inputs=(film,), video=tmp_path / "out.mp4", frames_folder=tmp_path / "out", settings=SETTINGS, timeline=timeline
    )
    run_job(interpolator, job)
    assert np.array_equal(np.stack(frames), np.stack(list(open_frames([tmp_path / "out"]))))


def test_frames_come_as_they_are_asked_for_and_every_pass_begins_anew(interpolator, film, monkeypatch):
    made = []
    stream = interpolator.stream
    monkeypatch.setattr(
        interpolator, "stream", lambda *rest: (made.append(pair.index) or pair for pair in stream(*rest))
    )
    clip = interpolator.interpolate_clip(film, Timeline(slow_motion=3, scene_cuts="off"), SETTINGS)
    assert made == []
    first = next(iter(clip))
    assert made == [0]
    assert np.array_equal(first, next(iter(clip)))


def test_the_default_size_is_the_nearest_of_upstreams(interpolator, film):
    with pytest.raises(UsageError, match=r"--height 704|--width 960"):
        interpolator.interpolate_clip(film, Timeline(rate=60), InterpolationSettings())
    clip = interpolator.interpolate_clip(film, Timeline(rate=60), aspect=Aspect(keep=True, size=Size(48, 64)))
    assert (clip.height, clip.width) == (48, 64)


def test_bad_input_is_named_before_anything_is_loaded(interpolator, tmp_path):
    with pytest.raises(MediaError, match=r"gone\.mp4"):
        interpolator.interpolate_clip(tmp_path / "gone.mp4", Timeline(rate=60), SETTINGS)


def test_variable_rate_follows_the_time_stamps(interpolator, tmp_path):
    times = [0, 100, 150, 250]
    frames = film_clips.moving_square(4, 64, 96, (60, 120, 60), step=8)
    path = film_clips.write_film(tmp_path / "v.mp4", frames, None, rate=1000, times_ms=times)
    clip = interpolator.interpolate_clip(path, Timeline(rate=20, scene_cuts="off"), SETTINGS)
    source, made = np.stack(list(open_frames([path]))), list(clip)
    duration = Fraction(250, 1000) + Fraction(1, 12)  # the last frame lasts as long as the mean
    assert clip.num_frames == len(made) == round(duration * 20)
    for index, moment in enumerate(times):
        assert np.array_equal(made[moment // 50], source[index])
    assert not any(np.array_equal(made[1], frame) for frame in source)
