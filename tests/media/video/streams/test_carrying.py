"""Sound, chapters and metadata beside new pictures: the same packets, in time, and what is dropped is said."""

import logging
import math
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from jax_interp.errors import UsageError
from jax_interp.media.video.streams.carrying import CarriedStreams, plan_streams
from jax_interp.media.video.streams.sound import tempos
from jax_interp.media.video.streams.sound_settings import Audio
from jax_interp.media.video.writer import VideoWriter
from tests.media import clips, film_clips

CLAPS = [0.5, 1.5]


def flashes(num_frames=48, height=32, width=32):
    """Black pictures at 24 a second, white for two frames from each clap on."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    for time in CLAPS:
        frames[round(24 * time) : round(24 * time) + 2] = 255
    return frames


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return film_clips.write_film(path, flashes(), film_clips.claps(CLAPS, 2.0))


def rewritten(film, target, *, audio: Audio = "auto", rate=60, begin=Fraction(0), end=Fraction(2), slowed=Fraction(1)):
    """New pictures at `rate` frames a second, each the one of the film that is shown at its time, with its streams."""
    span = begin, math.inf if end == 2 else end
    plan = plan_streams(film, audio, span, slowed, target.suffix)
    frames = flashes()
    with VideoWriter(target, rate, 32, 32, carried=CarriedStreams(plan)) as writer:
        for number in range(round((end - begin) * slowed * rate)):
            index = int((begin + Fraction(number) / rate / slowed) * 24)
            writer.write(frames[min(index, 47)][None])
    return plan


@pytest.mark.parametrize("rate", [60, Fraction(60000, 1001), 24])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_packets_are_the_same_and_in_time(film, tmp_path, rate, suffix):
    target = tmp_path / f"out{suffix}"
    rewritten(film, target, rate=rate)
    assert film_clips.packets(target, "audio") == film_clips.packets(film, "audio")
    sound, pictures = film_clips.clap_times(target), film_clips.flash_times(target)
    assert len(sound) == len(pictures) == 2
    assert max(abs(a - b) for a, b in zip(sound, pictures, strict=True)) < 1 / (2 * rate) + 0.001


def test_a_part_is_trimmed_to_within_a_packet(film, tmp_path):
    target = tmp_path / "out.mp4"
    rewritten(film, target, begin=Fraction(10, 24), end=Fraction(20, 24))
    whole, part = film_clips.packets(film, "audio"), film_clips.packets(target, "audio")
    assert 18 < len(part) < 24
    assert any(part == whole[start : start + len(part)] for start in range(len(whole)))
    [sound], [picture] = film_clips.clap_times(target), film_clips.flash_times(target)
    assert picture == pytest.approx(2 / 24, abs=0.001)
    assert abs(sound - picture) < 1 / 120


def test_what_is_written_beside_is_carried(film, tmp_path):
    target = tmp_path / "out.mp4"
    rewritten(film, target, begin=Fraction(1, 4), slowed=Fraction(1), end=Fraction(2))
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "Square"
        assert container.metadata["comment"] == "made by a test"
        assert container.streams.audio[0].metadata["language"] == "deu"
        [chapter] = container.chapters()
        assert chapter["metadata"] == {"title": "Opening"}
        assert chapter["end"] * Fraction(chapter["time_base"] or 0) == Fraction(1, 4)


@pytest.mark.parametrize("slowed", [1, 2])
def test_subtitles_are_carried_and_follow_slow_motion(tmp_path, slowed):
    film = film_clips.write_film(tmp_path / "film.mp4", flashes(), None, subtitles="mov_text")
    target = tmp_path / "out.mp4"
    rewritten(film, target, begin=Fraction(1, 4), slowed=Fraction(slowed), rate=24)
    with av.open(str(target)) as container:
        [packet] = [packet for packet in container.demux(container.streams.subtitles[0]) if packet.size > 2]
        content, tick = bytes(packet), float(packet.time_base)
        time, duration = (packet.pts or 0) * tick, (packet.duration or 0) * tick
    assert content == b"\0\4clap"
    assert (time, duration) == pytest.approx((0.25 * slowed, 0.4 * slowed), abs=0.002)


@pytest.mark.parametrize("slowed", [1, 2])
@pytest.mark.parametrize(("source", "suffix"), [(".mkv", ".mkv"), (".mkv", ".mp4")])
def test_a_subtitle_ends_with_the_part_that_is_used(tmp_path, source, suffix, slowed):
    film = film_clips.write_film(tmp_path / f"film{source}", flashes(), None, subtitles="subrip")
    target = tmp_path / f"out{suffix}"
    rewritten(film, target, begin=Fraction(1, 4), end=Fraction(3, 4), slowed=Fraction(slowed), rate=24)
    with av.open(str(target)) as container:
        [packet] = [packet for packet in container.demux(container.streams.subtitles[0]) if packet.size > 2]
        times = [(each or 0) * float(packet.time_base) for each in (packet.pts, packet.duration)]
    assert times == pytest.approx([0.25 * slowed, 0.25 * slowed], abs=0.002)


@pytest.mark.parametrize(
    ("kind", "source", "suffix", "expected"),
    [
        ("subrip", ".mkv", ".mp4", "mov_text"),
        ("ass", ".mkv", ".mp4", "mov_text"),
        ("webvtt", ".mkv", ".mov", "mov_text"),
        ("mov_text", ".mp4", ".mkv", "srt"),
    ],
)
def test_subtitles_of_text_become_the_kind_that_the_container_takes(tmp_path, caplog, kind, source, suffix, expected):
    film = film_clips.write_film(tmp_path / f"film{source}", flashes(), None, subtitles=kind)
    with caplog.at_level(logging.INFO, "jax_interp"):
        plan = rewritten(film, tmp_path / f"out{suffix}", begin=Fraction(1, 4), slowed=Fraction(2), rate=24)
    assert plan.said["dropped"] == []
    [rewriting] = plan.said["rewritten"]
    assert rewriting.endswith(f" as {'subrip' if suffix == '.mkv' else 'mov_text'}")
    assert f"without their fonts and places: {rewriting}" in caplog.text
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        stream = container.streams.subtitles[0]
        assert stream.codec_context.name == expected
        [packet] = [packet for packet in container.demux(stream) if packet.size > 2]
        times = [float((each or 0) * packet.time_base) for each in (packet.pts, packet.duration)]
        decoded: Any = stream.codec_context.decode2(packet)
        [text] = decoded
    assert times == pytest.approx((0.5, 0.8), abs=0.002)
    assert text.dialogue == (b"clap" if kind == "mov_text" else rb"{\i1}clap"), "italics stay"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\0nonsense", "the subtitle at 0.50 s of the input is left out: it cannot be read"),
        (rb"0,0,Default,,0,0,0,,{\an7\p1}m 0 0 l 10 10{\p0}", ""),
    ],
)
def test_a_damaged_subtitle_or_a_drawing_is_left_out(tmp_path, caplog, content, said):
    film = film_clips.write_film(tmp_path / "film.mkv", flashes(), None, subtitles="ass", subtitle=content)
    rewritten(film, tmp_path / "out.mp4", rate=24)
    assert said in caplog.text
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not [packet for packet in container.demux(container.streams.subtitles[0]) if packet.size > 2]
    assert len(film_clips.packets(tmp_path / "out.mp4", "video")) == 48


def test_subtitles_that_are_pictures_are_named(tmp_path, caplog):
    film = film_clips.write_film(tmp_path / "film.mkv", flashes(), None, subtitles="hdmv_pgs_subtitle")
    with caplog.at_level(logging.INFO, "jax_interp"):
        plan = rewritten(film, tmp_path / "out.mp4")
    assert plan.said["dropped"] == ["subtitle (pgssub)"]
    assert "film.mkv: not carried over: subtitle (pgssub)" in caplog.text


def test_sound_that_the_container_takes_is_copied_where_other_sound_is_encoded(film, tmp_path):
    plan = rewritten(film, tmp_path / "out.mp4", audio="encode")
    assert plan.said["encoded_as_aac"] == []
    assert film_clips.packets(tmp_path / "out.mp4", "audio") == film_clips.packets(film, "audio")


def test_slow_motion_drops_the_sound_and_says_so(film, tmp_path, caplog):
    target = tmp_path / "out.mp4"
    with caplog.at_level(logging.INFO, "jax_interp"):
        plan = rewritten(film, target, slowed=Fraction(2), rate=24)
    assert "film.mp4: its sound is dropped, as the output lasts 2 times as long; --audio stretch" in caplog.text
    assert plan.said["dropped"] == ["sound (aac)"]
    with av.open(str(target)) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("slowed", [Fraction(2), Fraction(9, 2)])
def test_stretched_sound_stays_in_time_and_keeps_its_pitch(film, tmp_path, slowed):
    target = tmp_path / "out.mp4"
    plan = rewritten(film, target, audio="stretch", slowed=slowed, rate=24)
    assert plan.said["encoded_as_aac"] == ["audio aac (deu)"]
    sound, pictures = film_clips.clap_times(target, 0.1, gap=1), film_clips.flash_times(target)
    assert pictures == pytest.approx([float(slowed) * time for time in CLAPS], abs=0.001)
    assert max(abs(a - b) for a, b in zip(sound, pictures, strict=True)) < 0.022 * slowed
    with av.open(str(target)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(samples) / film_clips.SOUND_RATE == pytest.approx(2 * float(slowed), rel=0.025)
    loudest = np.abs(np.fft.rfft(samples)).argmax() * film_clips.SOUND_RATE / len(samples)
    assert loudest == pytest.approx(2000, rel=0.05)


def test_a_part_is_stretched_by_itself(film, tmp_path):
    target = tmp_path / "out.mp4"
    rewritten(film, target, audio="stretch", begin=Fraction(10, 24), end=Fraction(20, 24), slowed=Fraction(2), rate=24)
    [sound], [picture] = film_clips.clap_times(target, 0.1, gap=1), film_clips.flash_times(target)
    assert picture == pytest.approx(4 / 24, abs=0.001)
    assert abs(sound - picture) < 0.044
    with av.open(str(target)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == pytest.approx(40_000, rel=0.05)


def test_a_codec_that_the_container_does_not_take(tmp_path):
    film = film_clips.write_film(tmp_path / "a.avi", flashes(), film_clips.claps(CLAPS, 2.0), sound_codec="pcm_mulaw")
    with pytest.raises(
        UsageError, match=r"a\.avi: its sound is pcm_mulaw, which mp4 does not take; --audio encode makes"
    ):
        plan_streams(film, "auto", (Fraction(0), Fraction(2)), Fraction(1), ".mp4")
    target = tmp_path / "out.mp4"
    rewritten(film, target, audio="encode")
    sound, pictures = film_clips.clap_times(target), film_clips.flash_times(target)
    assert max(abs(a - b) for a, b in zip(sound, pictures, strict=True)) < 0.05
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"


def test_stretching_without_sound_is_refused(tmp_path):
    film = film_clips.write_film(tmp_path / "silent.mp4", flashes(), None)
    with pytest.raises(UsageError, match=r"--audio stretch: .*silent\.mp4 has no sound; leave the option out"):
        plan_streams(film, "stretch", (Fraction(0), Fraction(2)), Fraction(2), ".mp4")


def test_the_same_streams_give_the_same_bytes(film, tmp_path):
    cases: list[tuple[Audio, Fraction]] = [("auto", Fraction(1)), ("stretch", Fraction(2))]
    for audio, slowed in cases:
        first, second = (tmp_path / f"{audio}{index}.mp4" for index in (1, 2))
        for target in (first, second):
            rewritten(film, target, audio=audio, slowed=slowed)
        assert first.read_bytes() == second.read_bytes()


def test_nothing_is_left_after_an_error(film, tmp_path):
    plan = plan_streams(film, "auto", (Fraction(0), Fraction(2)), Fraction(1), ".mp4")
    (tmp_path / "out").mkdir()
    writer = VideoWriter(tmp_path / "out" / "out.mp4", 24, 32, 32, carried=CarriedStreams(plan))

    def interrupted():
        with writer:
            writer.write(flashes()[:4])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert clips.names(tmp_path / "out") == []


@pytest.mark.parametrize("tempo", [Fraction(1), Fraction(1, 2), Fraction(1, 9), Fraction(3, 4), Fraction(1, 1000)])
def test_tempos_multiply_to_the_tempo(tempo):
    parts = tempos(tempo)
    assert math.prod(parts) == tempo
    assert all(Fraction(1, 2) <= part < 1 for part in parts)


GONE = ["sound (aac)", "chapters", "metadata (comment, title)"]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_drops_sound_and_chapters_and_says_so(film, tmp_path, caplog, suffix):
    target = tmp_path / f"out{suffix}"
    with caplog.at_level(logging.INFO, "jax_interp"):
        plan = rewritten(film, target, rate=24)
    assert "not carried over: sound (aac), chapters, metadata (comment, title)" in caplog.text
    assert "--audio" not in caplog.text
    assert plan.said == {"copied": [], "encoded_as_aac": [], "rewritten": [], "dropped": GONE}
    with av.open(str(target)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("audio", ["stretch", "encode"])
def test_sound_that_is_asked_for_is_refused_for_an_animation(film, audio):
    with pytest.raises(UsageError, match=rf"^--audio {audio}: a gif has no sound; write \.mp4, or leave the option"):
        plan_streams(film, audio, (Fraction(0), math.inf), Fraction(2), ".gif")
