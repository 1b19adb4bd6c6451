import errno
import re
import resource
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
import pytest
from av.error import err_check
from PIL import Image

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.output_rate import FASTEST, SLOWEST, exact_rate
from jax_interp.media.reader import open_frames
from jax_interp.media.video import codecs
from jax_interp.media.video import writer as video_writer
from jax_interp.media.video.codecs import check_length
from jax_interp.media.video.reader import open_video
from jax_interp.media.video.writer import VideoWriter
from tests.golden import psnr
from tests.media import clips
from tests.media.clips import names

SIZE = (clips.HEIGHT, clips.WIDTH)


def time_stamps(packets: Iterable[av.Packet]) -> list[Fraction]:
    """Seconds, in order; what is empty has none."""
    return sorted((packet.pts or 0) * (packet.time_base or Fraction(0)) for packet in packets if packet.size)


def write(path, frames, fps: int | Fraction = 24, **options):
    with VideoWriter(path, fps, *frames.shape[1:3], **options) as writer:
        writer.write(frames[:4])
        writer.write(frames[4:])
        assert writer.num_frames == len(frames)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("fps", [24, Fraction(24000, 1001), 29.97, 12.5, Fraction(60), SLOWEST, FASTEST])
def test_number_of_frames_and_rate_are_exact(tmp_path, suffix, fps):
    truth = clips.ramp(19)
    source = open_video(write(tmp_path / f"out{suffix}", truth, fps))
    frames = np.stack(list(source))
    assert source.fps == exact_rate(fps)
    assert source.num_frames == len(frames) == 19
    assert np.abs(frames.astype(int) - truth).max() <= 3
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]


@pytest.mark.parametrize(
    ("fps", "exact"),
    [
        (24, Fraction(24)),
        (24.0, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        (24000 / 1001, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        (Fraction(23976, 1000), Fraction(2997, 125)),
        (0.001, Fraction(1, 1000)),
        (0.96, Fraction(24, 25)),
    ],
)
def test_exact_rate(fps, exact):
    assert exact_rate(fps) == exact


@pytest.mark.parametrize(
    ("name", "options"),
    [("rgb.mp4", {"codec": "libx264rgb"}), ("rgb.mkv", {"codec": "libx264rgb"}), ("ffv1.mkv", {"codec": "ffv1"})],
)
@pytest.mark.parametrize("size", [SIZE, (17, 33)])
def test_lossless_codecs_return_every_bit(tmp_path, name, options, size):
    truth = np.random.default_rng(0).integers(0, 256, (5, *size, 3), np.uint8)
    assert np.array_equal(np.stack(list(open_video(write(tmp_path / name, truth, **options)))), truth)


def test_default_quality_is_visually_lossless(tmp_path):
    truth = clips.waves(12, 96, 128)
    frames = np.stack(list(open_video(write(tmp_path / "out.mp4", truth))))
    assert psnr(frames, truth) > 42
    assert np.abs((frames.astype(float) - truth).mean((0, 1, 2))).max() < 0.2
    worse = np.stack(list(open_video(write(tmp_path / "worse.mp4", truth, crf=40))))
    assert psnr(worse, truth) < psnr(frames, truth) - 5


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webp"])
def test_pixels_that_are_not_square_are_written(tmp_path, suffix):
    path = write(tmp_path / f"out{suffix}", clips.waves(3), pixel_aspect=Fraction(4, 3))
    assert open_frames([path]).pixel_aspect == (1 if suffix == ".webp" else Fraction(4, 3))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p"])
def test_saturated_colours_survive_and_are_tagged_bt709(tmp_path, suffix, pixel_format):
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255), (255, 0, 255), (220, 170, 140)], np.uint8)
    truth = np.broadcast_to(colours[:, None, None], (6, *SIZE, 3))
    path = write(tmp_path / f"out{suffix}", truth, pixel_format=pixel_format, crf=4)
    error = np.stack(list(open_video(path))).astype(float) - truth
    assert np.abs(error.mean((1, 2))).max() < 2
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert context.pix_fmt == pixel_format


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_index_comes_first(tmp_path, suffix):
    data = write(tmp_path / f"out{suffix}", clips.ramp(6)).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("name", "size", "options", "message"),
    [
        ("out", SIZE, {}, r"suffix must be one of \.mp4, \.mkv, \.mov, \.gif, \.webp, not none"),
        ("out.avi", SIZE, {}, r"not \.avi"),
        ("out.mp4", SIZE, {"codec": "ffv1"}, r"codec ffv1 needs \.mkv, not \.mp4"),
        ("out.mov", SIZE, {"codec": "av1"}, r"codec av1 needs \.mp4 or \.mkv, not \.mov"),
        ("out.mp4", SIZE, {"codec": "prores"}, r"codec prores needs \.mov or \.mkv, not \.mp4"),
        ("out.gif", SIZE, {"codec": "h264"}, r"codec h264 needs \.mp4 or \.mkv or \.mov, not \.gif"),
        ("out.mp4", SIZE, {"codec": "vp9"}, r"codec vp9 is unknown; choose one of h264, hevc, av1, ffv1, prores"),
        ("out.mp4", SIZE, {"codec": "av1", "crf": 64}, r"--crf must be 0 \(best\) to 63, not 64"),
        ("out.mov", SIZE, {"codec": "prores", "crf": 9}, r"prores has a fixed quality \(.*\) and takes no --crf"),
        ("out.gif", SIZE, {"crf": 9}, r"codec gif has 256 colours a frame and takes no --crf"),
        ("out.gif", SIZE, {"fps": 60}, r"a gif shows 50 frames a second at most, not 60; write \.webp or \.mp4"),
        ("out.mp4", SIZE, {"codec": "av1", "pixel_format": "yuv444p"}, r"av1 takes --pixel-format .*, not yuv444p"),
        ("out.mp4", SIZE, {"crf": 52}, r"--crf must be 0 \(lossless\) to 51, not 52"),
        ("out.mkv", SIZE, {"codec": "ffv1", "crf": 3}, r"ffv1 is lossless and takes no --crf"),
        ("out.mp4", SIZE, {"pixel_format": "rgb24"}, r"h264 takes --pixel-format yuv420p or .*, not rgb24"),
        ("out.mp4", SIZE, {"fps": 0}, r"rate must be positive, not 0"),
        ("out.mp4", SIZE, {"fps": 0.001}, r"rate must be from 0.01 to 1000 frames a second, not 0.001"),
        ("out.mp4", SIZE, {"fps": 1e9}, r"rate must be from 0.01 to 1000"),
        ("out.mp4", SIZE, {"fps": float("nan")}, r"rate must be positive, not nan"),
        ("out.mp4", SIZE, {"fps": float("inf")}, r"rate must be from 0.01 to 1000"),
        ("out.mp4", (17, 32), {}, r"32x17 is odd.*even size, pixel format yuv444p or codec ffv1"),
        ("out.mp4", (16, 33), {"pixel_format": "yuv422p"}, r"33x16 is odd"),
        ("out.mp4", (0, 16), {}, r"size must be positive"),
        ("out.avi", SIZE, {"crf": -1, "fps": -1}, r"\.avi; --crf .*; the rate"),
        ("folder.mp4", SIZE, {}, r"is a folder"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_created(tmp_path, name, size, options, message):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UsageError, match=message):
        VideoWriter(tmp_path / name, options.pop("fps", 24), *size, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.mp4"]


def test_an_encoder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", set(av.codecs_available) - {"libx265"})
    with pytest.raises(UsageError, match=r"codec hevc needs FFmpeg's encoder libx265, .* PyAV .* without; install"):
        VideoWriter(tmp_path / "a.mp4", 24, *SIZE, codec="hevc")
    VideoWriter(tmp_path / "a.mp4", 24, *SIZE)


@pytest.mark.parametrize(
    ("name", "options", "encoder", "least"),
    [
        ("a.mp4", {"codec": "hevc"}, "hevc", 40),
        ("a.mkv", {"codec": "hevc", "pixel_format": "yuv444p10le"}, "hevc", 40),
        ("a.mov", {"codec": "hevc", "pixel_format": "yuv420p10le"}, "hevc", 40),
        ("a.mp4", {"codec": "av1"}, "libdav1d", 40),
        ("a.mkv", {"codec": "av1", "pixel_format": "yuv420p10le"}, "libdav1d", 40),
        ("a.mov", {"codec": "prores"}, "prores", 42),
        ("a.mkv", {"codec": "prores", "pixel_format": "yuv444p10le"}, "prores", 45),
    ],
)
def test_other_codecs_keep_frames_rate_and_colours(tmp_path, capfd, name, options, encoder, least):
    truth = clips.waves(12, 96, 128)
    path = write(tmp_path / name, truth, Fraction(24000, 1001), **options)
    assert capfd.readouterr() == ("", ""), "encoders print nothing of their own"
    source = open_video(path)
    frames = np.stack(list(source))
    assert (source.num_frames, source.fps, source.description["codec"]) == (12, Fraction(24000, 1001), encoder)
    assert psnr(frames, truth) > least
    assert np.abs((frames.astype(float) - truth).mean((0, 1, 2))).max() < 0.3
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (1, 1)
        # The decoder of ProRes 4444 gives 12 bits, of which the file has 10.
        expected = options.get("pixel_format", "yuv422p10le" if encoder == "prores" else "yuv420p")
        assert context.pix_fmt in (expected, expected.replace("10le", "12le") if encoder == "prores" else expected)
        assert encoder != "hevc" or name.endswith(".mkv") or context.codec_tag == "hvc1"


@pytest.mark.parametrize(("name", "least"), [("a.gif", 26), ("a.webp", 40)])
def test_animations_keep_every_frame_and_the_whole_time(tmp_path, name, least):
    truth = clips.waves(25, 96, 128)
    source = open_frames([write(tmp_path / name, truth)])
    assert source.num_frames == 25
    assert psnr(np.stack(list(source)), truth) > least
    with Image.open(tmp_path / name) as image:
        durations = []
        for index in range(25):
            image.seek(index)
            image.load()
            durations.append(image.info["duration"])
        assert image.info["loop"] == 0
    tick = 10 if name.endswith("gif") else 1
    starts = np.cumsum([0, *durations[:-1]])
    assert np.abs(starts - np.arange(25) * 1000 / 24).max() <= tick / 2


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_long_animations_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(codecs, "MOST_ANIMATION_PIXELS", 4 * SIZE[0] * SIZE[1])
    check_length(tmp_path / name, 4, *SIZE)
    with pytest.raises(UsageError, match=r"5 frames of 64x48 are too many for a (gif|webp), .* 4 of that size; write"):
        check_length(tmp_path / name, 5, *SIZE)
    check_length(tmp_path / "a.mp4", 5, *SIZE)
    with VideoWriter(tmp_path / name, 24, *SIZE) as writer:
        writer.write(clips.ramp(4))
        with pytest.raises(UsageError, match="too many"):
            writer.write(clips.ramp(1))
    assert names(tmp_path) == [name]


def test_odd_sizes_work_without_subsampling(tmp_path):
    truth = clips.ramp(3, 17, 33)
    frames = np.stack(list(open_video(write(tmp_path / "odd.mp4", truth, pixel_format="yuv444p"))))
    assert np.abs(frames.astype(int) - truth).max() <= 3


def test_the_folder_is_created_and_the_old_video_replaced_at_the_end(tmp_path):
    path = tmp_path / "new" / "deep" / "out.mp4"
    write(path, clips.ramp(3))
    old = path.read_bytes()
    with VideoWriter(path, 24, *SIZE) as writer:
        assert writer.partial.exists(), "what is wrong with the folder must show before the work"
        writer.write(clips.ramp(5))
        assert path.read_bytes() == old
    assert open_video(path).num_frames == 5
    assert names(path.parent) == ["out.mp4"]


def test_names_of_unfinished_files_are_unique_and_nobody_elses(tmp_path):
    others = tmp_path / "out.partial.mp4"
    others.write_bytes(b"mine")
    with VideoWriter(tmp_path / "out.mp4", 24, *SIZE) as one, VideoWriter(tmp_path / "out.mp4", 24, *SIZE) as two:
        for writer in (one, two):
            writer.write(clips.ramp(2))
            assert re.fullmatch(r"\.out\.mp4\.[0-9a-f]{12}\.part", writer.partial.name)
        assert one.partial != two.partial
    assert names(tmp_path) == ["out.mp4", "out.partial.mp4"]
    assert others.read_bytes() == b"mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MediaError])
def test_an_exception_leaves_nothing_behind(tmp_path, error):
    old = write(tmp_path / "out.mp4", clips.ramp(3)).read_bytes()

    def interrupted():
        with VideoWriter(tmp_path / "out.mp4", 24, *SIZE) as writer:
            writer.write(clips.ramp(5))
            raise error

    with pytest.raises(error):
        interrupted()
    assert names(tmp_path) == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == old


def test_no_frames_are_an_error(tmp_path):
    with (
        pytest.raises(MediaError, match=r"out\.mkv: no frame was written"),
        VideoWriter(tmp_path / "out.mkv", 24, *SIZE),
    ):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 16, 64, 3), np.uint8), np.zeros((*SIZE, 3), np.uint8), np.zeros((1, *SIZE, 3), np.float32)],
)
def test_other_frames_than_announced_are_refused(tmp_path, frames):
    with (
        pytest.raises(ValueError, match=r"expected uint8 frames \[F, 48, 64, 3\]"),
        VideoWriter(tmp_path / "out.mp4", 24, *SIZE) as writer,
    ):
        writer.write(frames)
    assert names(tmp_path) == []


@pytest.fixture
def file_size_limit():
    """The operating system refuses to let a file grow beyond this: a disk that is full, for real."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "ffv1.mkv"])
@pytest.mark.parametrize("limit", [1_000, 60_000])
def test_a_file_that_cannot_grow(tmp_path, file_size_limit, name, limit):
    noise = np.random.default_rng(0).integers(0, 256, (30, *SIZE, 3), np.uint8)
    codec = "ffv1" if name.startswith("ffv1") else "h264"
    file_size_limit(limit)
    with pytest.raises(
        MediaError, match=rf"{name}: cannot be written \(File too large\); .* GB are free in .*: make room"
    ):
        write(tmp_path / name, noise, codec=codec)
    assert names(tmp_path) == []


@pytest.mark.parametrize("when", ["open", "mux", "close", "replace"])
def test_a_full_disk_at_any_moment(tmp_path, monkeypatch, when):
    def full(*args, **kwargs):
        err_check(-errno.ENOSPC, "out.partial.mp4")

    old = write(tmp_path / "out.mp4", clips.ramp(3)).read_bytes()
    real_open = av.open

    class Container:
        """A PyAV container one of whose methods fails once."""

        def __init__(self, *args, **kwargs):
            self._real, self._failing = real_open(*args, **kwargs), when

        def __getattr__(self, name):
            if name != self._failing:
                return getattr(self._real, name)
            self._failing = None
            return full

    monkeypatch.setattr(av, "open", full if when == "open" else Container)
    if when == "replace":
        monkeypatch.setattr(video_writer.Path, "replace", full)
    with pytest.raises(MediaError, match=r"out\.mp4: cannot be written \(No space left on device\)"):
        write(tmp_path / "out.mp4", clips.ramp(80))
    assert names(tmp_path) == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == old


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match=r"file/out\.mp4: cannot be written \((Not a directory|File exists)\)"):
        write(tmp_path / "file" / "out.mp4", clips.ramp(3))


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(60000, 1001), Fraction(15, 2), Fraction(123457, 1000)])
def test_the_stated_rate_and_every_time_stamp_are_exact(tmp_path, suffix, fps):
    path = write(tmp_path / f"out{suffix}", clips.ramp(19), fps)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == fps
        times = time_stamps(container.demux(stream))
    assert times == [index / fps for index in range(19)]


def test_matroska_keeps_the_rate_and_the_nearest_millisecond(tmp_path):
    fps = Fraction(60000, 1001)
    path = write(tmp_path / "out.mkv", clips.ramp(19), fps)
    assert open_video(path).fps == fps
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = time_stamps(container.demux(stream))
    assert all(abs(time - index / fps) <= Fraction(1, 2000) for index, time in enumerate(times))


@pytest.mark.parametrize("fps", [Fraction(10**10 + 1, 10**9), Fraction(0.1) + 24])
def test_a_fraction_that_no_container_can_state_is_refused(tmp_path, fps):
    with pytest.raises(UsageError, match=r"as a fraction of whole numbers below 2,147,483,648"):
        VideoWriter(tmp_path / "out.mp4", fps, *SIZE)
