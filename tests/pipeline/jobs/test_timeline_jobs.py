"""Jobs that follow the input's time: counts, cuts, sound, shape, and interruption, on tiny networks."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.reader import open_frames
from jax_interp.media.shape import Aspect, Size
from jax_interp.media.timeline.settings import Timeline
from jax_interp.media.video import codecs
from jax_interp.media.video.codecs import EncodingSettings
from jax_interp.pipeline.jobs.clip import find_clip, settled
from jax_interp.pipeline.jobs.job import run_job
from tests.media import clips, film_clips
from tests.pipeline.jobs.test_job import Stop, stopping_after
from tests.pipeline.jobs.watched_guardrails import Watched

HEIGHT, WIDTH = 64, 96


@pytest.fixture
def interpolator(interpolators):
    return interpolators["float32"]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Half a second with sound, a cut before frame 6, and a picture as large as the network's."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    frames = film_clips.with_cut(12, 6, HEIGHT, WIDTH)
    return film_clips.write_film(path, frames, film_clips.claps([0.25], 0.5))


@pytest.fixture
def timed_job(make_job, film, tmp_path):
    def make(timeline, **changes):
        return make_job(inputs=(film,), timeline=timeline, frames_folder=tmp_path / "frames", **changes)

    return make


def frames_in(folder: Path) -> np.ndarray:
    return np.stack(list(open_frames([folder])))


@pytest.mark.parametrize(
    ("timeline", "count", "rate"),
    [
        (Timeline(rate=60), 30, 60),
        (Timeline(rate="60000/1001"), 30, Fraction(60000, 1001)),
        (Timeline(slow_motion=2), 24, 24),
        (Timeline(rate="source"), 12, 24),
        (Timeline(rate=10), 5, 10),
    ],
)
def test_counts_are_exact_and_the_sound_is_the_same(interpolator, timed_job, film, tmp_path, timeline, count, rate):
    job = timed_job(timeline)
    record = run_job(interpolator, job)
    assert record is not None
    assert record["frames"] == count
    made = open_frames([job.video])
    assert (made.num_frames, made.fps) == (count, rate)
    with av.open(str(job.video)) as container:
        has_sound = bool(container.streams.audio)
    assert has_sound == (timeline.slowed == 1)
    if has_sound:
        assert film_clips.packets(job.video, "audio") == film_clips.packets(film, "audio")
    assert record["carried_over"]["dropped"] == ([] if has_sound else ["sound (aac)"])


def test_originals_are_the_inputs_own_and_no_frame_lies_across_the_cut(interpolator, timed_job, film, tmp_path):
    record = run_job(interpolator, timed_job(Timeline(rate=48)))
    assert record is not None
    assert record["timeline"]["scene_cuts"] == [6]
    assert record["pairs"] == 10
    source, made = np.stack(list(open_frames([film]))), frames_in(tmp_path / "frames")
    assert np.array_equal(made[::2], source)
    assert np.array_equal(made[11], source[5]), "held up to the cut"
    assert not np.array_equal(made[9], source[4])
    assert record["timeline"]["largest_error_frames"] == pytest.approx(48 / 24 / 18, abs=1e-4)


def test_cuts_of_a_record_are_given_back_and_may_be_edited(interpolator, timed_job, film, tmp_path):
    first = timed_job(Timeline(rate=48))
    run_job(interpolator, first)
    again = timed_job(Timeline(rate=48, scene_cuts=first.record), overwrite=True)
    again = replace(again, video=tmp_path / "again.mp4")
    record = run_job(interpolator, again)
    assert record is not None
    assert record["timeline"]["scene_cuts"] == [6]
    assert record["timeline"]["scene_cuts_from"] == "given"
    assert find_clip(again).most_pieces == 10, "nothing has to be looked at"
    edited = tmp_path / "cuts.txt"
    edited.write_text("# none of them is real\n3\n9  # nor this\n")
    assert settled(timed_job(Timeline(rate=48, scene_cuts=edited))).timeline.scene_cuts == (3, 9)


def test_decoded_keyframes_are_the_networks(interpolator, timed_job, film, tmp_path):
    run_job(interpolator, timed_job(Timeline(rate="source", keyframes="decoded", scene_cuts="off")))
    source, made = np.stack(list(open_frames([film]))), frames_in(tmp_path / "frames")
    assert len(made) == len(source)
    assert not any(np.array_equal(a, b) for a, b in zip(made, source, strict=True))


def test_upstreams_pace_takes_cuts_and_sound_where_they_are_asked_for(interpolator, timed_job, tmp_path, caplog):
    job = timed_job(Timeline(scene_cuts="auto"), audio="auto")
    with caplog.at_level("INFO", "jax_interp"):
        record = run_job(interpolator, job)
    assert record is not None
    assert (record["frames"], record["pairs"]) == (9 * 11 + 1, 10)
    assert "its sound is dropped, as the output lasts 8.33 times as long" in caplog.text
    made = frames_in(tmp_path / "frames")
    assert all(np.array_equal(made[45], frame) for frame in made[46:54]), "the frame before the cut is held"


def test_duplicates_are_merged(interpolator, make_job, tmp_path):
    path = film_clips.write_film(tmp_path / "twos.mp4", film_clips.on_twos(12, HEIGHT, WIDTH), None)
    job = make_job(inputs=(path,), timeline=Timeline(rate=48, duplicates="merge"))
    record = run_job(interpolator, job)
    assert record is not None
    assert (record["frames"], record["pairs"], record["timeline"]["merged_frames"]) == (24, 5, 6)


@pytest.mark.parametrize("pairs", [1, 4, 9])
def test_an_interrupted_run_gives_the_same(interpolator, timed_job, tmp_path, monkeypatch, pairs):
    timeline = Timeline(rate=Fraction(36), duplicates="merge")
    whole = replace(timed_job(timeline), video=tmp_path / "whole.mp4", frames_folder=tmp_path / "whole")
    expected = run_job(interpolator, whole)
    job = timed_job(timeline)
    with monkeypatch.context() as patched:
        stopping_after(interpolator, pairs, patched)
        with pytest.raises(Stop):
            run_job(interpolator, job)
    made = stopping_after(interpolator, 100, monkeypatch)
    record = run_job(interpolator, job)
    assert record is not None
    assert expected is not None
    assert made[0] == pairs
    assert job.video.read_bytes() == whole.video.read_bytes()
    assert record["timeline"] == expected["timeline"]
    assert np.array_equal(frames_in(tmp_path / "frames"), frames_in(tmp_path / "whole"))


def test_guardrails_see_every_frame_that_is_shown(interpolator, timed_job, monkeypatch):
    seen = []
    watched = Watched()
    check = watched.check_video
    monkeypatch.setattr(
        watched, "check_video", lambda frames, number: seen.append(frames.shape) or check(frames, number)
    )
    monkeypatch.setattr(interpolator, "guardrails", watched)
    run_job(interpolator, timed_job(Timeline(rate=10, scene_cuts="off")))
    assert seen == [(1, HEIGHT, WIDTH, 3), *[(10, HEIGHT, WIDTH, 3)] * 4]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"timeline": Timeline(rate=60, scene_cuts=(12,))}, UsageError, "--scene-cuts: frame 12 begins no scene of an"),
        (
            {"timeline": Timeline(rate=60, scene_cuts=Path("no.txt"))},
            UsageError,
            r"--scene-cuts no\.txt: cannot be read",
        ),
        ({"timeline": Timeline(rate="100x")}, UsageError, "--rate 100x: is 2400 frames a second"),
        ({"aspect": Aspect(keep=True, size=Size(2048, 2048))}, UsageError, "--height 2048"),
    ],
)
def test_bad_jobs_stop_before_anything_is_made(interpolator, timed_job, tmp_path, monkeypatch, changes, error, message):
    made = stopping_after(interpolator, 10, monkeypatch)
    job = timed_job(Timeline(rate=60))
    with pytest.raises(error, match=message):
        run_job(interpolator, replace(job, **changes))
    assert made == []
    assert not (tmp_path / "out").exists()


def test_pictures_are_joined_whatever_they_show_and_have_no_sound(interpolator, make_job, tmp_path):
    from PIL import Image

    paths = []
    for index, level in enumerate((20, 230)):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8)).save(paths[-1])
    job = make_job(inputs=tuple(paths), timeline=Timeline(slow_motion=4))
    record = run_job(interpolator, job)
    assert record is not None
    assert (record["frames"], record["pairs"]) == (8, 1)
    with pytest.raises(UsageError, match=r"--audio stretch: .*0\.png, .*1\.png has no sound"):
        run_job(interpolator, replace(job, audio="stretch"))


def test_a_size_that_nobody_asked_for_is_explained(interpolator, timed_job, tmp_path):
    path = film_clips.write_film(tmp_path / "upright.mp4", film_clips.moving_square(4, 80, 48, (60, 120, 60)), None)
    job = timed_job(Timeline(rate=60))
    job = replace(job, inputs=(path,), settings=replace(job.settings, height=704, width=1280), aspect=Aspect(keep=True))
    chosen = r"--height 1280.*; 704x1280 was chosen for the shape of the input, 48x80: --aspect WIDTHxHEIGHT"
    with pytest.raises(UsageError, match=chosen):
        run_job(interpolator, job)
    with pytest.raises(UsageError, match=r"^((?!chosen).)*$"):
        run_job(interpolator, replace(job, aspect=Aspect(keep=True, size=Size(704, 1280))))


def test_pixels_that_are_not_square_become_square_where_the_shape_is_kept(make_job, tmp_path):
    """Otherwise a film of a DVD would come out squeezed."""
    wide = clips.encode(tmp_path / "wide.mp4", clips.waves(3, 48, 60), pixel_aspect=Fraction(6, 5))
    assert find_clip(make_job(inputs=(wide,), timeline=Timeline(rate="2x"))).shape.inner == Size(64, 96)
    square = clips.encode(tmp_path / "square.mp4", clips.waves(3, 48, 60))
    assert find_clip(make_job(inputs=(square,), timeline=Timeline(rate="2x"))).shape.inner == Size(64, 80)


def test_what_comes_out_is_said_before(interpolator, timed_job, caplog):
    with caplog.at_level("INFO", "jax_interp"):
        run_job(interpolator, timed_job(Timeline(rate=10)))
    assert "film.mp4: 96x64, 10 frames a second, 5 frames (0.50 s) from 12; at most" in caplog.text
    assert "--rate 10 is below the input's 24 frames a second: frames of the input are dropped" in caplog.text


def test_frames_that_fill_no_pair_are_said(interpolator, timed_job, caplog):
    job = timed_job(Timeline(rate="source", scene_cuts="off"))
    job = replace(job, settings=replace(job.settings, frame_stride=5, num_frame_pairs=None))
    with caplog.at_level("INFO", "jax_interp"):
        run_job(interpolator, job)
    assert "the last 1 frame(s) of the input fill no pair of 5 steps and are left out" in caplog.text


def test_coarse_steps_are_warned_about(interpolator, timed_job, caplog):
    record = run_job(interpolator, timed_job(Timeline(slow_motion=8, rate=48)))
    assert record is not None
    assert "a pair has 9 steps, so output frames are up to 0.89 of a frame" in caplog.text
    assert record["timeline"]["largest_error_frames"] == pytest.approx(8 / 9, abs=1e-4)


def test_the_record_is_json(interpolator, timed_job):
    job = timed_job(Timeline(rate=Fraction(48)))
    record = run_job(interpolator, job)
    assert json.loads(job.record.read_text()) == json.loads(json.dumps(record))


def test_a_clip_that_ends_early_is_named(interpolator, timed_job, monkeypatch):
    job = settled(timed_job(Timeline(rate=48, scene_cuts="off")))
    clip = find_clip(job)
    source = replace(clip.source, read=lambda: iter(list(clip.source)[:5]))
    short = replace(clip, plan=replace(clip.plan, source=source))
    with pytest.raises(MediaError, match="the input ended before frame 5"):
        run_job(interpolator, job, clip=short)


def test_merged_duplicates_that_make_steps_coarse_are_warned_about(interpolator, make_job, tmp_path, caplog):
    path = film_clips.write_film(tmp_path / "twos.mp4", film_clips.on_twos(8, HEIGHT, WIDTH), None)
    run_job(interpolator, make_job(inputs=(path,), timeline=Timeline(slow_motion=4, duplicates="merge")))
    assert caplog.text.count("off their time") == 1


@pytest.mark.parametrize(("codec", "suffix"), [("prores", ".mov"), ("ffv1", ".mkv"), ("hevc", ".mp4"), ("av1", ".mkv")])
def test_sound_goes_along_with_every_codec(interpolator, timed_job, film, tmp_path, codec, suffix):
    encoding = EncodingSettings(codec=codec)
    job = timed_job(Timeline(rate="source"), video=tmp_path / f"out/film{suffix}", encoding=encoding)
    record = run_job(interpolator, job)
    assert record is not None
    assert record["output"].items() >= encoding.facts(job.video).items()
    with av.open(str(job.video)) as container:
        assert container.streams.video[0].codec_context.name in (codec, "libdav1d")
    assert film_clips.packets(job.video, "audio") == film_clips.packets(film, "audio")
    assert open_frames([job.video]).num_frames == 12


def test_a_gif_has_no_sound_and_is_as_long_as_the_timeline_says(interpolator, timed_job, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(codecs, "MOST_ANIMATION_PIXELS", 50 * HEIGHT * WIDTH)
    job = timed_job(Timeline(rate=10), video=tmp_path / "out/film.gif")
    with caplog.at_level("INFO", "jax_interp"):
        record = run_job(interpolator, job)
    assert record is not None
    assert (record["frames"], record["carried_over"]["dropped"]) == (
        5,
        ["sound (aac)", "chapters", "metadata (comment, title)"],
    )
    assert "film.mp4: not carried over: sound (aac), chapters, metadata (comment, title)" in caplog.text
    with pytest.raises(UsageError, match=r"film\.gif: 100 frames of 96x64 are too many for a gif"):
        run_job(interpolator, replace(job, timeline=Timeline()))
    with pytest.raises(UsageError, match=r"film\.gif: a gif shows 50 frames a second at most, not 60"):
        run_job(interpolator, replace(job, timeline=Timeline(rate=60), overwrite=True))
    with pytest.raises(UsageError, match="--audio stretch: a gif has no sound"):
        run_job(interpolator, replace(job, audio="stretch"))
