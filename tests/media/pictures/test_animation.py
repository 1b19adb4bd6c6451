import logging
import struct
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from jax_interp.errors import MediaError
from jax_interp.media.pictures.animation import open_animation
from jax_interp.media.pictures.header import read_header
from tests.media import clips
from tests.media.clips import truncate
from tests.media.pictures.test_header import png_chunk

TRUTH = clips.waves(4, 12, 20)


def animate(path, frames, *, duration: int | list[int] = 40, **options):
    first, *more = [Image.fromarray(frame) for frame in frames]
    options |= {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=more, duration=duration, **options)
    return path


def opened(path):
    return open_animation(path, read_header(path))


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def long_webp(path, num_frames: int, size: int):
    """An animation of one picture over and over, size x size."""
    Image.new("RGB", (size, size), (9, 90, 200)).save(path, lossless=True)
    pixels = path.read_bytes()[12:]
    extent = (size - 1).to_bytes(3, "little") * 2
    frame = webp_chunk(b"ANMF", bytes(6) + extent + (40).to_bytes(3, "little") + b"\0" + pixels)
    chunks = webp_chunk(b"VP8X", b"\2\0\0\0" + extent) + webp_chunk(b"ANIM", bytes(6)) + frame * num_frames
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
    return path


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_every_frame_is_exact_and_comes_again(tmp_path, name):
    source = opened(animate(tmp_path / name, TRUTH))
    for _ in range(2):
        assert np.array_equal(np.stack(list(source)), TRUTH)
    assert (source.num_frames, source.height, source.width, source.fps) == (4, 12, 20, 25)
    assert source.description == {
        "kind": "animation",
        "path": str(tmp_path / name),
        "frames": 4,
        "height": 12,
        "width": 20,
        "fps": "25",
    }


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
@pytest.mark.parametrize(
    ("duration", "fps"),
    [([40, 40, 40, 900], 25), ([10, 20, 30, 40], 50), ([0, 0, 0, 0], None), ([100, 100, 100, 0], 10)],
)
def test_the_rate_is_that_of_the_durations(tmp_path, name, duration, fps):
    assert opened(animate(tmp_path / name, TRUTH, duration=duration)).fps == fps


def test_a_pngs_durations_are_fractions(tmp_path):
    data = animate(tmp_path / "a.png", TRUTH, duration=1).read_bytes()
    for numerator, denominator, fps in [(1001, 30000, Fraction(30000, 1001)), (1, 24, 24), (5, 0, 20), (1, 60, 60)]:
        changed, at = b"\x89PNG\r\n\x1a\n", 8
        while at < len(data):
            length, kind = struct.unpack(">I4s", data[at : at + 8])
            content = data[at + 8 : at + 8 + length]
            if kind == b"fcTL":
                content = content[:20] + struct.pack(">HH", numerator, denominator) + content[24:]
            changed, at = changed + png_chunk(kind, content), at + 12 + length
        (tmp_path / "b.png").write_bytes(changed)
        assert opened(tmp_path / "b.png").fps == fps


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_an_orientation_turns_every_frame(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = opened(animate(tmp_path / name, TRUTH, exif=exif))
    assert (source.height, source.width) == (20, 12)
    assert np.array_equal(np.stack(list(source)), np.rot90(TRUTH, -1, axes=(1, 2)))


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_transparency_is_laid_over_black_and_said_once(tmp_path, name, caplog):
    alpha = np.full((4, 12, 20, 1), 255, np.uint8)
    alpha[:, 3:] = 0
    animate(tmp_path / name, np.concatenate([TRUTH, alpha], -1), **({"disposal": 1} if name == "a.png" else {}))
    with caplog.at_level(logging.WARNING):
        frames = np.stack(list(opened(tmp_path / name)))
    assert np.array_equal(frames, np.where(alpha == 255, TRUTH, 0))
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / name} has transparent parts; they are laid over black"
    ]


def test_a_still_picture_for_other_programs_is_no_frame(tmp_path):
    source = opened(animate(tmp_path / "a.png", TRUTH, default_image=True))
    assert np.array_equal(np.stack(list(source)), TRUTH[1:])


@pytest.mark.parametrize(("name", "part"), [("a.webp", "RIFF chunk lacks"), ("a.png", "chunk")])
def test_a_cut_file_is_refused_at_the_door(tmp_path, name, part):
    path = animate(tmp_path / name, TRUTH)
    header = read_header(path)
    for share in (0.9, 0.5):
        truncate(path, share)
        with pytest.raises(MediaError, match=rf"{name}: cut off or damaged \(.*{part}.*get the whole file"):
            open_animation(path, header)


def test_a_damaged_frame_is_named_when_its_turn_comes(tmp_path):
    path = animate(tmp_path / "a.png", TRUTH)
    data = bytearray(path.read_bytes())
    third = [at for at in range(len(data)) if data[at : at + 4] == b"fdAT"][1]
    data[third + 20 : third + 40] = bytes(20)
    path.write_bytes(data)
    frames = iter(opened(path))
    assert np.array_equal(next(frames), TRUTH[0])
    assert np.array_equal(next(frames), TRUTH[1])
    with pytest.raises(MediaError, match=r"a\.png: damaged at frame 2"):
        next(frames)


def test_fewer_frames_than_promised_are_noticed(tmp_path):
    data = animate(tmp_path / "a.png", TRUTH).read_bytes()
    promised = data.replace(png_chunk(b"acTL", struct.pack(">II", 4, 0)), png_chunk(b"acTL", struct.pack(">II", 9, 0)))
    assert promised != data
    (tmp_path / "a.png").write_bytes(promised)
    with pytest.raises(MediaError, match=r"a\.png: damaged at frame 4"):
        list(opened(tmp_path / "a.png"))


def test_sixteen_bits_are_refused_with_what_to_do(tmp_path):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    data = animate(tmp_path / "a.png", TRUTH[:, :1, :1]).read_bytes()
    (tmp_path / "a.png").write_bytes(data[:8] + header + data[8 + len(header) :])
    with pytest.raises(MediaError, match=r"a\.png: .*16 bits a channel.* single PNGs"):
        opened(tmp_path / "a.png")


def test_a_long_animation_is_not_held_in_memory(tmp_path):
    path = long_webp(tmp_path / "a.webp", 1000, 64)
    tracemalloc.start()
    source = opened(path)
    assert source.num_frames == sum(frame.shape == (64, 64, 3) and frame[5, 5, 2] == 200 for frame in source) == 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 12288 < peak < 1 << 20


def test_the_times_of_very_many_frames_are_small(tmp_path):
    path = long_webp(tmp_path / "a.webp", 20_000, 1)
    tracemalloc.start()
    source = opened(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (source.num_frames, source.fps) == (20_000, 25)
    assert next(iter(source)).tolist() == [[[9, 90, 200]]]
    assert peak < 4 << 20
