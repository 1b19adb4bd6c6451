import io
import itertools
import json
import logging
import weakref
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from jax_interp.errors import MediaError
from jax_interp.media.video import reader
from jax_interp.media.video.reader import open_video
from tests import golden
from tests.media import clips


def test_golden_clip_is_read_exactly():
    source = open_video(golden.CLIP)
    frames = np.stack(list(source))
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, golden.load("inputs_clip")["frames"])
    assert (source.num_frames, source.height, source.width, source.fps) == (4, 72, 120, 24)
    assert np.array_equal(frames, np.stack(list(source))), "every pass starts at the first frame"
    record = json.loads(json.dumps(dict(source.description)))
    assert record["frames"] == 4
    assert record["fps"] == "24"
    assert record["path"] == str(golden.CLIP)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "rate", "options"),
    [
        ("bframes.mp4", "libx264", "yuv420p", 24, {"bf": "3", "g": "8"}),
        ("ntsc.mp4", "libx264", "yuv420p", Fraction(24000, 1001), {}),
        ("no_count.mkv", "libx264", "yuv420p", Fraction(30000, 1001), {}),
        ("quicktime.mov", "mpeg4", "yuv420p", 25, {}),
        ("vp8.webm", "libvpx", "yuv420p", 24, {"b": "200k", "auto-alt-ref": "1", "lag-in-frames": "8"}),
        ("vp9.webm", "libvpx-vp9", "yuv420p", 60, {"b": "200k"}),
        ("divx.avi", "mpeg4", "yuv420p", 25, {"bf": "2"}),
        ("palette.gif", "gif", "gray", 10, {}),
        ("broadcast.ts", "libx264", "yuv420p", 25, {"bf": "2"}),
        ("raw.h264", "libx264", "yuv420p", 24, {}),
    ],
)
def test_every_frame_counts_once_in_order(tmp_path, name, codec, pixel_format, rate, options):
    truth = clips.ramp(13)
    source = open_video(clips.encode(tmp_path / name, truth, codec, pixel_format, rate=rate, options=options))
    frames = np.stack(list(source))
    assert source.num_frames == len(frames) == 13
    assert (source.height, source.width) == frames.shape[1:3] == (clips.HEIGHT, clips.WIDTH)
    assert source.fps == rate
    assert np.abs(frames.mean((1, 2, 3)) - truth[:, 0, 0, 0]).max() < 6


def test_sound_and_fragments_do_not_disturb(tmp_path):
    path = clips.encode(tmp_path / "sound.mp4", clips.ramp(9), audio_seconds=1)
    assert (open_video(path).num_frames, open_video(path).fps) == (9, 24)
    fragments = {"movflags": "frag_keyframe+empty_moov"}
    path = clips.encode(tmp_path / "fragments.mp4", clips.ramp(9), options={"g": "3"}, muxer=fragments)
    source = open_video(path)
    assert (source.num_frames, len(list(source)), source.fps) == (9, 9, 24)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rate_gives_the_mean(tmp_path, suffix):
    times = [0, 40, 80, 160, 200, 330, 370, 410, 500]
    path = clips.encode(tmp_path / f"variable.{suffix}", clips.ramp(9), rate=1000, times_ms=times)
    source = open_video(path)
    assert source.num_frames == len(list(source)) == 9
    assert source.fps == pytest.approx(8 / 0.5, rel=0.07)


def test_edit_list_is_obeyed(tmp_path):
    path = clips.encode(tmp_path / "edited.mp4", clips.ramp(48), options={"g": "12"})
    clips.set_edit(path, skip_frames=20, keep_seconds=0.5)
    source = open_video(path)
    frames = np.stack(list(source))
    assert source.num_frames == len(frames) == 12
    assert np.abs(frames.mean((1, 2, 3)) - clips.ramp(48)[20:32, 0, 0, 0]).max() < 3


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
        ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
        ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
    ],
)
def test_rotation_and_mirroring_are_applied(tmp_path, matrix, upright):
    truth = clips.waves(2)
    path = clips.encode(tmp_path / "turned.mp4", truth, "libx264rgb", "rgb24", options={"crf": "0"})
    clips.set_display_matrix(path, *matrix)
    source = open_video(path)
    expected = upright(truth[0])
    assert (source.height, source.width) == expected.shape[:2]
    assert np.array_equal(next(iter(source)), expected)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pixels_that_are_not_square_are_said(tmp_path, suffix):
    """As on DVDs and of HDV cameras."""
    path = clips.encode(tmp_path / f"wide.{suffix}", clips.waves(2), pixel_aspect=Fraction(4, 3))
    source = open_video(path)
    assert (source.pixel_aspect, source.shown_width) == (Fraction(4, 3), round(source.width * 4 / 3))
    assert source.description["pixel_aspect"] == "4/3"
    square = open_video(clips.encode(tmp_path / f"square.{suffix}", clips.waves(2)))
    assert (square.pixel_aspect, square.shown_width) == (1, square.width)
    assert "pixel_aspect" not in square.description
    odd = open_video(clips.encode(tmp_path / f"odd.{suffix}", clips.waves(2), pixel_aspect=Fraction(9)))
    assert odd.pixel_aspect == 1, "nobody means that"


def test_pixels_that_are_not_square_turn_with_their_frame(tmp_path):
    path = clips.encode(tmp_path / "turned.mp4", clips.waves(2), pixel_aspect=Fraction(4, 3))
    clips.set_display_matrix(path, 0, 1, -1, 0)
    assert open_video(path).pixel_aspect == Fraction(3, 4)


def test_odd_sizes_deep_colour_and_alpha(tmp_path):
    odd = clips.waves(3, 17, 33)
    path = clips.encode(tmp_path / "odd.mkv", odd, "ffv1", "bgr0")
    assert np.array_equal(np.stack(list(open_video(path))), odd)
    path = clips.encode(tmp_path / "deep.mkv", odd, "ffv1", "yuv444p10le")
    assert np.abs(np.stack(list(open_video(path))).astype(int) - odd).max() <= 3
    path = clips.encode(tmp_path / "alpha.mov", odd, "png", "rgba")
    assert np.array_equal(np.stack(list(open_video(path))), odd)


def test_a_gifs_transparent_parts_are_laid_over_black_and_that_is_said_once(tmp_path, caplog):
    pictures = []
    for last in (1, 2):
        picture = Image.frombytes("P", (4, 1), bytes([0, 1, 2, last]))
        picture.putpalette([250, 10, 20, 100, 0, 0, 0, 50, 0])
        pictures.append(picture)
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], transparency=0, disposal=2, duration=50)
    with caplog.at_level(logging.WARNING):
        frames = np.stack(list(open_video(path)))
    red, green = [100, 0, 0], [0, 50, 0]
    assert frames.tolist() == [[[[0, 0, 0], red, green, red]], [[[0, 0, 0], red, green, green]]]
    said = f"{path} has transparent parts; they are laid over black"
    assert [record.getMessage() for record in caplog.records] == [said]


@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_a_cameras_motion_jpeg_is_turned_by_its_exif(tmp_path, orientation, quarters):
    exif = Image.Exif()
    exif[0x0112] = orientation
    truth = clips.waves(2)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = clips.WIDTH, clips.HEIGHT, "yuvj444p"
        for index, frame in enumerate(truth):
            picture = io.BytesIO()
            Image.fromarray(frame).save(picture, "JPEG", exif=exif, quality=95, subsampling=0)
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = index
            container.mux(packet)
    source = open_video(tmp_path / "a.mkv")
    expected = np.rot90(truth, quarters, axes=(1, 2))
    assert (source.height, source.width) == expected.shape[1:3]
    assert np.abs(np.stack(list(source)).astype(int) - expected).mean() < 2


def test_a_video_whose_frames_are_huge_is_refused(tmp_path, monkeypatch):
    path = clips.encode(tmp_path / "a.mp4", clips.ramp(2))
    monkeypatch.setattr(reader, "MAX_PIXELS", clips.HEIGHT * clips.WIDTH - 1)
    with pytest.raises(MediaError, match=r"a\.mp4: frames may have 3,071 pixels at most"):
        open_video(path)


def test_frames_are_converted_as_they_are_asked_for_and_not_kept(tmp_path, monkeypatch):
    source = open_video(clips.encode(tmp_path / "long.mp4", clips.ramp(60)))
    converted = []
    convert = reader.ColorConverter.convert
    monkeypatch.setattr(reader.ColorConverter, "convert", lambda self, f: converted.append(1) or convert(self, f))
    frames = iter(source)
    for _ in range(3):
        next(frames)
    frame = next(frames)
    first, kept = weakref.ref(frame), next(frames)
    del frame
    assert first() is None
    assert kept.shape == (clips.HEIGHT, clips.WIDTH, 3)
    assert len(converted) == 5


def test_one_frame_is_not_enough(tmp_path):
    with pytest.raises(MediaError, match=r"single\.mp4: holds 1 frame\(s\); at least 2"):
        open_video(clips.encode(tmp_path / "single.mp4", clips.ramp(1)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"these are not frames\n" * 40),
        ("notes.mp4", b"these are not frames\n" * 40),
        ("empty.mp4", b""),
        ("noise.mkv", np.random.default_rng(0).bytes(4096)),
        ("list.ffconcat", b"ffconcat version 1.0\nfile clip.mp4\n"),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content):
    clips.encode(tmp_path / "clip.mp4", clips.ramp(3))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=rf"{name}: cannot be read as a video"):
        open_video(tmp_path / name)


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w") as container:
        container.mux(clips.silence(container.add_stream("aac", rate=48000), 1))
    with pytest.raises(MediaError, match=r"song\.m4a: holds no video stream"):
        open_video(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_truncated_files_are_refused_at_the_door(tmp_path, suffix):
    path = clips.encode(
        tmp_path / f"cut.{suffix}", clips.waves(48), options={"crf": "10"}, muxer={"movflags": "faststart"}
    )
    clips.truncate(path, 0.6)
    with pytest.raises(MediaError, match=rf"cut\.{suffix}: cut off or damaged at frame \d+"):
        open_video(path)


def test_damage_within_names_the_frame(tmp_path):
    path = clips.encode(
        tmp_path / "hurt.mp4", clips.waves(48), options={"crf": "10", "g": "6"}, muxer={"movflags": "faststart"}
    )
    clips.damage(path, 0.5)
    good = []
    with pytest.raises(MediaError, match=r"hurt\.mp4: damaged at frame (\d+)") as caught:
        good.extend(open_video(path))
    assert f"at frame {len(good)} " in str(caught.value)
    assert 10 < len(good) < 40


def test_a_change_of_size_names_the_frame(tmp_path):
    first = clips.encode(tmp_path / "a.h264", clips.ramp(5), options={"bf": "0"})
    second = clips.encode(tmp_path / "b.h264", clips.ramp(5, 32, 32), options={"bf": "0"})
    (tmp_path / "both.h264").write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(MediaError, match=r"both\.h264: frame 5 is 32x32, the first one 64x48"):
        list(open_video(tmp_path / "both.h264"))


def test_fewer_frames_than_counted_is_an_error(tmp_path, monkeypatch):
    path = clips.encode(tmp_path / "short.mkv", clips.ramp(6))
    scan = reader.scan_packets

    def count_too_many(*args):
        packets = scan(*args)
        return replace(packets, shown=packets.shown + 2)

    monkeypatch.setattr(reader, "scan_packets", count_too_many)
    with pytest.raises(MediaError, match=r"short\.mkv: damaged at frame 6 .* 8 frames were counted"):
        list(open_video(path))


def test_frames_are_counted_by_decoding_where_packets_mislead(tmp_path, monkeypatch):
    path = clips.encode(tmp_path / "cut_in.mkv", clips.ramp(6))
    scan = reader.scan_packets
    monkeypatch.setattr(reader, "scan_packets", lambda *args: replace(scan(*args), shown=9, complete=False))
    assert open_video(path).num_frames == 6


def test_a_missing_or_locked_file_is_named(tmp_path):
    with pytest.raises(MediaError, match=r"gone\.mp4: cannot be read as a video \(No such file"):
        open_video(tmp_path / "gone.mp4")


def test_the_name_is_never_taken_for_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = clips.encode(tmp_path / "plain.mp4", clips.ramp(3)).rename(tmp_path / "concat:clip.mp4")
    frames = itertools.islice(open_video(path.relative_to(tmp_path)), 1)
    assert next(frames).shape == (clips.HEIGHT, clips.WIDTH, 3)
