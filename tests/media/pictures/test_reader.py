import logging
import os

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from jax_interp.errors import MediaError
from jax_interp.media.pictures import reader
from jax_interp.media.pictures.reader import list_pictures, open_pictures, read_picture
from tests.media import clips
from tests.media.clips import truncate


def save(path, picture, **options):
    Image.fromarray(picture).save(path, **options)
    return path


def read_twice(tmp_path, name, image, **options):
    """What `image` gives, saved under `name`."""
    image.save(tmp_path / name, **options)
    source = open_pictures([tmp_path / name] * 2, {})
    frames = list(source)
    assert all(frame.dtype == np.uint8 and frame.shape == (source.height, source.width, 3) for frame in frames)
    assert all(frame.flags.c_contiguous for frame in frames)
    return frames[0]


def test_a_folder_is_in_natural_order_and_other_files_are_passed_over(tmp_path):
    names = ["frame10.png", "frame9.png", "Frame1.PNG", "frame2.png", "frame09b.png"]
    for name in names:
        save(tmp_path / name, clips.ramp(1)[0])
    for other in ("notes.txt", ".hidden.png", "._frame3.png", "clip.mp4", "Thumbs.db"):
        (tmp_path / other).write_bytes(b"other")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == [
        "Frame1.PNG",
        "frame2.png",
        "frame9.png",
        "frame09b.png",
        "frame10.png",
    ]


def test_pictures_come_in_the_order_given(tmp_path):
    truth = clips.waves(3)
    paths = [save(tmp_path / f"{name}.png", frame) for name, frame in zip("zax", truth, strict=True)]
    source = open_pictures(paths, {"kind": "pictures"})
    assert np.array_equal(np.stack(list(source)), truth)
    assert (source.num_frames, source.height, source.width, source.fps) == (3, clips.HEIGHT, clips.WIDTH, None)
    assert source.description == {"kind": "pictures", "frames": 3, "height": clips.HEIGHT, "width": clips.WIDTH}


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.tiff"])
def test_lossless_formats_are_exact(tmp_path, name):
    truth = clips.waves(1, 17, 33)[0]
    assert np.array_equal(read_twice(tmp_path, name, Image.fromarray(truth)), truth)


def test_webp_and_jpeg(tmp_path):
    truth = clips.waves(1)[0]
    assert np.array_equal(read_twice(tmp_path, "a.webp", Image.fromarray(truth), lossless=True), truth)
    jpeg = read_twice(tmp_path, "a.jpg", Image.fromarray(truth), quality=95, subsampling=0)
    assert np.abs(jpeg.astype(int) - truth).mean() < 2


def test_grayscale_palettes_and_cmyk_become_rgb(tmp_path):
    truth = clips.waves(1)[0]
    gray = truth[..., 0]
    assert np.array_equal(read_twice(tmp_path, "gray.png", Image.fromarray(gray)), np.repeat(gray[..., None], 3, -1))
    bits = read_twice(tmp_path, "bits.png", Image.fromarray(gray > 127))
    assert np.array_equal(bits[..., 1], np.where(gray > 127, 255, 0))
    palette = Image.fromarray(truth).quantize(32)
    assert np.array_equal(read_twice(tmp_path, "palette.png", palette), np.asarray(palette.convert("RGB")))
    cmyk = Image.fromarray(truth).convert("CMYK")
    assert np.abs(read_twice(tmp_path, "cmyk.jpg", cmyk, quality=95).astype(int) - truth).mean() < 3


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_rounded_to_eight(tmp_path, suffix):
    wide = np.linspace(0, 65535, clips.HEIGHT * clips.WIDTH).astype(np.uint16).reshape(clips.HEIGHT, clips.WIDTH)
    frame = read_twice(tmp_path, f"wide.{suffix}", Image.fromarray(wide))
    assert np.array_equal(frame[..., 2], np.rint(wide / 257).astype(np.uint8))


def test_transparent_parts_are_laid_over_black_and_said_once(tmp_path, caplog):
    truth = clips.waves(1)[0]
    clear = np.zeros((clips.HEIGHT, clips.WIDTH, 1), np.uint8)
    with caplog.at_level(logging.WARNING):
        frame = read_twice(tmp_path, "alpha.png", Image.fromarray(np.concatenate([truth, clear], -1)))
        assert frame.max() == 0
        read_picture(tmp_path / "alpha.png")
        read_twice(tmp_path, "opaque.png", Image.fromarray(np.concatenate([truth, clear + 255], -1)))
    said = f"{tmp_path / 'alpha.png'} has transparent parts; they are laid over black"
    assert [record.getMessage() for record in caplog.records] == [said, said]


def test_what_a_folder_would_lack_is_named(tmp_path):
    save(tmp_path / "0.png", clips.ramp(1)[0])
    (tmp_path / "1.png").touch()
    for name in ("2.tga", "3.avif", "4.exr", "5.gif", "6.HEIC"):
        (tmp_path / name).write_bytes(b"GIF89a or something else")
    (tmp_path / "7.png").symlink_to("moved.png")
    os.mkfifo(tmp_path / "8.png")
    kinds = ", ".join(
        rf"{name} \(a kind that is not read\)" for name in ("2.tga", "3.avif", "4.exr", "5.gif", "6.HEIC")
    )
    links = r"7\.png \(a link to moved\.png, which is not there\), 8\.png \(no regular file\)"
    with pytest.raises(
        MediaError, match=rf"{tmp_path}: would lack frames: 1\.png \(empty\), {kinds}, {links}; replace"
    ):
        list_pictures(tmp_path)


def test_many_faults_are_shortened(tmp_path):
    for index in range(14):
        (tmp_path / f"{index}.png").touch()
    with pytest.raises(MediaError, match=r"9\.png \(empty\) and 4 more; replace"):
        list_pictures(tmp_path)


def test_pictures_count_by_content_whatever_they_are_called(tmp_path, caplog):
    picture = Image.fromarray(clips.ramp(1)[0])
    for name in ("0.jfif", "1.JPE", "2.tga", "3.png"):
        picture.save(tmp_path / name, format="JPEG")
    picture.save(tmp_path / "frame.dat", format="PNG")
    with caplog.at_level(logging.WARNING):
        assert [path.name for path in list_pictures(tmp_path)] == ["0.jfif", "1.JPE", "2.tga", "3.png"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: pictures that are not called so are left out: frame.dat"
    ]


def test_a_good_link_is_a_picture(tmp_path):
    save(tmp_path / "a.png", clips.ramp(1)[0])
    (tmp_path / "b.png").symlink_to("a.png")
    assert [path.name for path in list_pictures(tmp_path)] == ["a.png", "b.png"]


def test_values_of_unknown_range_are_refused(tmp_path):
    image = Image.fromarray(np.zeros((8, 8), np.float32))
    with pytest.raises(MediaError, match=r"hdr\.tif: holds float32 values.* 8 or 16 bits"):
        read_twice(tmp_path, "hdr.tif", image)


@pytest.mark.parametrize("name", ["photo.jpg", "photo.webp", "photo.tif"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_cameras_orientation_is_applied(tmp_path, name, orientation):
    turned = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: np.rot90(x, 2),
        6: lambda x: np.rot90(x, -1),
        8: np.rot90,
    }
    truth = clips.waves(1)[0]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"photo.jpg": {"quality": 95, "subsampling": 0}, "photo.webp": {"lossless": True}, "photo.tif": {}}[name]
    frame = read_twice(tmp_path, name, Image.fromarray(truth), exif=exif, **options)
    expected = turned[orientation](truth)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 2


def test_among_pictures_the_first_frame_of_an_animated_one_counts_and_that_is_said(tmp_path, caplog):
    truth = clips.waves(3)
    images = [Image.fromarray(frame) for frame in truth]
    with caplog.at_level(logging.WARNING):
        frame = read_twice(tmp_path, "moving.webp", images[0], save_all=True, append_images=images[1:], lossless=True)
    assert np.array_equal(frame, truth[0])
    [record] = caplog.records
    assert record.getMessage().startswith("animated or of several pages, only the first picture is used: ")
    assert str(tmp_path / "moving.webp") in record.getMessage()


def test_pixels_are_decoded_one_picture_at_a_time(tmp_path, monkeypatch):
    paths = [save(tmp_path / f"{index}.png", frame) for index, frame in enumerate(clips.waves(4))]
    decoded = []
    read = reader._read_picture
    monkeypatch.setattr(reader, "_read_picture", lambda path, *how: decoded.append(path) or read(path, *how))
    source = open_pictures(paths, {})
    assert decoded == []
    frames = iter(source)
    next(frames)
    next(frames)
    assert decoded == paths[:2]


def test_mixed_sizes_are_refused_and_all_named(tmp_path):
    paths = [save(tmp_path / f"{n}.png", clips.ramp(1, 16, 16 + (n in (1, 3)))[0]) for n in range(5)]
    with pytest.raises(MediaError, match=r"0\.png is 16x16, but: .*1\.png \(17x16\), .*3\.png \(17x16\)$"):
        open_pictures(paths, {})


def test_one_picture_or_none_is_not_enough(tmp_path):
    with pytest.raises(MediaError, match=r"no pictures \(\.png.*it holds 0 other files"):
        list_pictures(tmp_path)
    path = save(tmp_path / "only.png", clips.ramp(1)[0])
    with pytest.raises(MediaError, match=r"one picture only \(only\.png\); at least 2"):
        open_pictures([path], {})


def test_what_is_no_picture_is_refused_at_the_door(tmp_path):
    good = save(tmp_path / "0.png", clips.ramp(1)[0])
    bad = tmp_path / "1.png"
    bad.write_text("not a picture")
    with pytest.raises(MediaError, match=r"1\.png: cannot be read as a picture"):
        open_pictures([good, bad], {})
    with pytest.raises(MediaError, match=r"2\.png: cannot be read as a picture"):
        open_pictures([good, tmp_path / "2.png"], {})


def test_a_damaged_picture_is_named_when_its_turn_comes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    paths = [save(tmp_path / f"{index}.png", noise) for index in range(3)]
    truncate(paths[1], 0.5)
    frames = iter(open_pictures(paths, {}))
    assert np.array_equal(next(frames), noise)
    with pytest.raises(MediaError, match=r"1\.png: cannot be read as a picture"):
        next(frames)


def test_a_picture_that_changed_meanwhile_is_named(tmp_path):
    paths = [save(tmp_path / f"{index}.png", clips.ramp(1)[0]) for index in range(2)]
    source = open_pictures(paths, {})
    iio.imwrite(paths[1], clips.ramp(1, 8, 8)[0])
    with pytest.raises(MediaError, match=r"1\.png: decodes to 8x8, expected 64x48"):
        list(source)
