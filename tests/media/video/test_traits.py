"""Videos that are not plain: HDR, interlaced, without colour tags, transparent. Each is read right, and said."""

import logging
from fractions import Fraction

import av
import numpy as np
import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.read_settings import ReadSettings
from jax_interp.media.video.reader import open_video
from tests.media import clips

PQ, HLG, BT2020, BT2020_MATRIX = 16, 18, 9, 9


def deep_gray(path, transfer, codes=(64, 330, 940)):
    """A clip of three vertical bars with these 10-bit luma codes, tagged as HDR."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 48, 16, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        luma = np.repeat(np.array(codes, np.uint16), 16)
        for index in range(2):
            frame = av.VideoFrame(48, 16, "yuv420p10le")
            for plane, row in zip(frame.planes, (luma, np.full(24, 512), np.full(24, 512)), strict=True):
                rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                rows[:, : len(row)] = row
                plane.update(rows.tobytes())
            frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 1
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def bars(source):
    frame = next(iter(source))
    return [frame[8, x].tolist() for x in (8, 24, 40)]


@pytest.mark.parametrize(("transfer", "name"), [(PQ, "PQ"), pytest.param(HLG, "HLG", marks=pytest.mark.slow)])
def test_hdr_is_tone_mapped_and_said(tmp_path, caplog, transfer, name):
    path = deep_gray(tmp_path / "hdr.mkv", transfer)
    with caplog.at_level(logging.INFO, "jax_interp"):
        source = open_video(path)
    assert f"hdr.mkv: is HDR ({name}) and is tone-mapped to BT.709" in caplog.text
    assert source.description["hdr"] == f"{name}, tone-mapped to BT.709"
    black, middle, white = bars(source)
    plain = bars(open_video(deep_gray(tmp_path / "sdr.mkv", 1)))
    assert max(black) <= 2
    assert max(middle) - min(middle) <= 3, "gray stays gray"
    assert min(white) >= 230
    if transfer == PQ:  # HLG is made to look alike on an SDR screen
        assert middle[1] < plain[1][1] - 8, "the same codes mean something darker"


def test_hdr_may_be_refused(tmp_path):
    path = deep_gray(tmp_path / "hdr.mkv", PQ)
    with pytest.raises(MediaError, match=r"hdr\.mkv: is HDR \(PQ\), which --hdr refuse refuses; give an SDR version"):
        open_video(path, reading=ReadSettings(hdr="refuse"))


def interlaced(path, num_frames=6):
    """A white bar that moves 8 pixels a field, as fields of alternate lines."""
    fields = np.zeros((2 * num_frames, 48, 160, 3), np.uint8)
    for index, field in enumerate(fields):
        field[:, 8 * index : 8 * index + 24] = 235
    woven = fields[::2].copy()
    woven[:, 1::2] = fields[1::2, 1::2]
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "4", "preset": "veryfast"}
    return clips.encode(path, woven, options=options, rate=25), woven


def combs(frame):
    """How much neighbouring lines differ."""
    return np.abs(np.diff(frame[..., 1].astype(int), axis=0)).mean()


def test_interlaced_frames_are_deinterlaced_one_for_one(tmp_path, caplog):
    path, woven = interlaced(tmp_path / "tape.mp4")
    with caplog.at_level(logging.INFO, "jax_interp"):
        source = open_video(path)
    assert "tape.mp4: is interlaced and is deinterlaced (bwdif)" in caplog.text
    assert source.description["interlaced"] == "deinterlaced by bwdif"
    frames = list(source)
    assert len(frames) == source.num_frames == 6
    for frame, raw in zip(frames[1:-1], woven[1:-1], strict=True):
        assert combs(frame) < combs(raw) / 4
        assert abs(int(frame[20].argmax() // 3) - int(raw[20].argmax() // 3)) <= 10, "the bar is where it was"


def test_interlaced_frames_may_be_kept_with_a_warning(tmp_path, caplog):
    path, woven = interlaced(tmp_path / "tape.mp4")
    source = open_video(path, reading=ReadSettings(interlaced="keep"))
    assert "tape.mp4: is interlaced, so moving edges have combs" in caplog.text
    assert source.description["interlaced"] == "kept"
    assert combs(list(source)[2]) > combs(woven[2]) / 2


@pytest.mark.parametrize(
    ("height", "width", "said", "matrix"),
    [
        (48, 64, "not tagged, read as BT.601, as SD is", "bt601"),
        (16, 1280, "not tagged, read as BT.709, as HD is", "bt709"),
        (578, 16, "not tagged, read as BT.709, as HD is", "bt709"),
    ],
)
def test_untagged_colours_are_read_by_the_size(tmp_path, height, width, said, matrix, caplog):
    color = np.broadcast_to(np.array([200, 60, 30], np.uint8), (2, height, width, 3))
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for index, frame in enumerate(color):
            picture = clips.convert(frame, "yuv444p", f"flags=accurate_rnd:out_color_matrix={matrix}:out_range=tv")
            picture.colorspace, picture.color_range = 2, 0
            picture.pts, picture.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    with caplog.at_level(logging.INFO, "jax_interp"):
        source = open_video(path)
    assert source.description["colors"] == said
    assert f"a.mkv: its colours are {said}" in caplog.text
    assert np.abs(next(iter(source)).astype(int) - color[0]).max() <= 2


def test_transparent_video_is_laid_over_black_and_that_is_said(tmp_path, caplog):
    frames = np.full((2, 16, 16, 4), 200, np.uint8)
    frames[:, :8, :, 3] = 0
    frames[:, 8:, :, 3] = 255
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=24)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgba"
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgba")
            picture.pts, picture.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    source = open_video(path)
    shown = np.stack(list(source))
    assert (shown[:, :8] == 0).all()
    assert (shown[:, 8:] == 200).all()
    assert "a.mov has transparent parts; they are laid over black" in caplog.text
    assert source.description["transparency"] == "laid over black"


@pytest.mark.parametrize(("name", "value"), [("hdr", "keep"), ("interlaced", "off")])
def test_other_words_are_refused(name, value):
    with pytest.raises(UsageError, match=f"--{name} {value}: expected"):
        ReadSettings(**{name: value})
