"""Whole files are read, however their times lie; files cut anywhere are refused, over all containers."""

import numpy as np
import pytest

from jax_interp.errors import MediaError
from jax_interp.media.video.reader import open_video
from jax_interp.media.video.truncation import find_truncation
from tests.media import clips

FAST_START = {"movflags": "faststart"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
KINDS = {
    "index_last.mp4": ("libx264", {"bf": "2"}, {}),
    "index_first.mp4": ("libx264", {"bf": "2"}, FAST_START),
    "fragments.mp4": ("libx264", {"g": "10"}, FRAGMENTS),
    "quicktime.mov": ("mpeg4", {"bf": "2"}, FAST_START),
    "plain.mkv": ("libx264", {"bf": "2"}, {}),
    "live.mkv": ("libx264", {"g": "10"}, {"live": "1"}),
    "vp9.webm": ("libvpx-vp9", {"b": "300k"}, {}),
    "divx.avi": ("mpeg4", {"bf": "2"}, {}),
}


def make(tmp_path, name, sound=0):
    codec, options, muxer = KINDS[name]
    return clips.encode(
        tmp_path / name, clips.waves(30), codec, rate=25, options=options, muxer=muxer, audio_seconds=sound
    )


def read(path):
    """All frames; raises `MediaError` at the door or while reading."""
    return list(open_video(path))


@pytest.mark.parametrize("sound", [0, 3])
@pytest.mark.parametrize("name", KINDS)
def test_whole_files_are_read_and_cut_ones_refused_at_the_door(tmp_path, name, sound):
    path = make(tmp_path, name, 0 if name.endswith("webm") else sound)
    assert open_video(path).num_frames == len(read(path)) == 30
    data = path.read_bytes()
    # The list of fragments (mfra) behind the last one serves seeking only: without it the clip is whole.
    end = data.rindex(b"mfra") - 4 if name == "fragments.mp4" else len(data)
    cuts = {int(share * end) for share in np.linspace(0.1, 0.98, 23)} | {end - lost for lost in (1, 2, 7, 40)}
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        with pytest.raises(MediaError):
            open_video(path)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_transport_stream_cut_within_a_packet_or_a_frame_is_refused(tmp_path, codec):
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), np.uint8)
    path = clips.encode(tmp_path / "cut.ts", noise, codec, rate=25, options={"b": "2M"})
    data = path.read_bytes()
    assert len(read(path)) == 12
    refused = 0
    for packet in range(len(data) // 376, len(data) // 188):
        path.write_bytes(data[: packet * 188 + 90])
        with pytest.raises(MediaError, match="its last packet lacks 98 bytes"):
            open_video(path)
        path.write_bytes(data[: packet * 188])
        try:
            frames = read(path)
        except MediaError:
            refused += 1
        else:
            assert len(frames) <= 12, "cut between two frames: it is a shorter stream"
    assert refused > 3 * 12 // 2


def shifted(path, video_start, sound_start=None, muxer=None, times_ms=None):
    """A clip of 20 frames at 25 a second whose picture starts at `video_start` seconds."""
    times = times_ms or [round(1000 * video_start) + 40 * index for index in range(20)]
    sound = 0 if sound_start is None else 2
    return clips.encode(path, clips.ramp(20), rate=1000, times_ms=times, muxer=muxer, audio_seconds=sound)


@pytest.mark.parametrize(
    ("suffix", "start"),
    # An AVI has no time stamps: to start late it holds empty frames.
    [("avi", 0.4), *((suffix, start) for suffix in ("mp4", "mov", "mkv", "ts") for start in (0.4, 100))],
)
@pytest.mark.parametrize("sound", [None, 0])
def test_a_picture_may_start_at_any_time(tmp_path, suffix, start, sound):
    path = shifted(tmp_path / f"late.{suffix}", start, sound)
    source = open_video(path)
    assert source.num_frames == len(list(source)) == 20


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_the_last_frame_may_last_long(tmp_path, suffix):
    times = [40 * index for index in range(19)] + [9000]
    path = shifted(tmp_path / f"slides.{suffix}", 0, times_ms=times)
    assert len(read(path)) == 20


def test_negative_times_edit_lists_and_a_header_that_says_more_are_no_damage(tmp_path):
    negative = {"avoid_negative_ts": "disabled", "use_editlist": "0"}
    path = clips.encode(tmp_path / "early.mp4", clips.ramp(20), rate=25, options={"bf": "3"}, muxer=negative)
    assert len(read(path)) == 20
    path = clips.encode(tmp_path / "edited.mp4", clips.ramp(48), options={"g": "12"}, muxer=FAST_START)
    clips.set_edit(path, skip_frames=20, keep_seconds=0.5)
    assert len(read(path)) == 12
    data = bytearray(path.read_bytes())
    start = data.index(b"mvhd") + 20
    data[start : start + 4] = (1_000_000).to_bytes(4)
    path.write_bytes(data)
    assert len(read(path)) == 12


def test_a_box_that_runs_to_the_end_of_the_file_is_counted(tmp_path):
    path = make(tmp_path, "index_first.mp4")
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") - 4
    data[start : start + 4] = bytes(4)
    path.write_bytes(data)
    assert len(read(path)) == 30
    path.write_bytes(data[: start + (len(data) - start) // 2])
    with pytest.raises(MediaError, match=r"cut off or damaged at frame \d+"):
        open_video(path)


@pytest.mark.parametrize("name", ["index_first.mp4", "plain.mkv", "divx.avi"])
def test_bytes_behind_a_whole_file_are_harmless(tmp_path, name):
    path = make(tmp_path, name)
    for tail in (b"\n", bytes(5000), b"appended by something else" * 20):
        whole = path.read_bytes()
        path.write_bytes(whole + tail)
        assert open_video(path).num_frames == 30
        path.write_bytes(whole)


def test_a_download_whose_end_is_still_zeros_is_refused(tmp_path):
    path = make(tmp_path, "plain.mkv")
    data = path.read_bytes()
    kept = int(0.6 * len(data))
    path.write_bytes(data[:kept] + bytes(len(data) - kept))
    with pytest.raises(MediaError):
        read(path)


def test_the_message_says_what_is_missing(tmp_path):
    path = make(tmp_path, "index_first.mp4")
    path.write_bytes(path.read_bytes()[:-1234])
    with pytest.raises(
        MediaError, match=r"cut off or damaged at frame \d+ \(its mdat box lacks 1,234 bytes\); get the whole"
    ):
        open_video(path)


def test_of_an_unknown_container_nothing_is_said(tmp_path):
    (tmp_path / "a.flv").write_bytes(b"FLV")
    assert find_truncation(tmp_path / "a.flv", "flv") is None


@pytest.mark.parametrize("container", ["mov", "matroska", "avi", "mpegts", "gif", "apng"])
def test_noise_ends_every_walk(tmp_path, container):
    rng = np.random.default_rng(7)
    path = tmp_path / "noise"
    for size in [0, 1, 3, 7, 12, 13, 40, 189, 500, 5000] * 20:
        path.write_bytes(rng.integers(0, 256, size, np.uint8).tobytes())
        assert find_truncation(path, container) is None or isinstance(find_truncation(path, container), str)
