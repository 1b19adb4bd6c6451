import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.pictures.pixels import Background
from jax_interp.media.reader import last_frame, open_frames
from tests import golden
from tests.media import clips


@pytest.fixture
def folder(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for index, frame in enumerate(clips.waves(3)):
        iio.imwrite(frames / f"{index}.png", frame)
    return frames


def test_a_video_a_folder_and_pictures_are_told_apart(folder):
    video = open_frames([golden.CLIP])
    assert (video.description["kind"], video.num_frames) == ("video", 4)
    whole = open_frames([folder])
    assert (whole.description["kind"], whole.description["path"]) == ("folder", str(folder))
    assert np.array_equal(np.stack(list(whole)), clips.waves(3))
    two = open_frames([folder / "2.png", cast(Path, str(folder / "0.png"))])
    assert two.description["kind"] == "pictures"
    assert two.description["path"] == f"{folder / '2.png'}, {folder / '0.png'}"
    assert np.array_equal(np.stack(list(two)), clips.waves(3)[[2, 0]])


def test_missing_inputs_are_all_named(folder):
    with pytest.raises(MediaError, match=r"a\.png, .*b\.png: no such file or folder"):
        open_frames([folder / "a.png", folder / "0.png", folder / "b.png"])


@pytest.mark.parametrize(
    ("order", "warned"),
    [((1, 10, 2), True), ((1, 2, 10), False), ((10, 2, 1), False), ((2, 1), False), ((1, 2), False)],
)
def test_the_order_of_a_shells_pattern_is_warned_of(tmp_path, caplog, order, warned):
    """It writes out frame10 before frame2; an order that somebody chose is nothing to warn of."""
    paths = [tmp_path / f"frame{number}.png" for number in order]
    for path in paths:
        iio.imwrite(path, clips.waves(1)[0])
    open_frames(paths)
    said = f"{tmp_path}/frame10.png comes before {tmp_path}/frame2.png"
    assert [record.getMessage().startswith(said) for record in caplog.records] == [True] * warned


def test_several_videos_are_refused_with_the_option_that_takes_them(folder):
    with pytest.raises(UsageError, match=r"not so for .*; give one video.*--batch-input-path"):
        open_frames([golden.CLIP, golden.CLIP])


def test_one_picture_is_not_enough(folder):
    with pytest.raises(MediaError, match=r"0\.png: one picture; .* at least two frames"):
        open_frames([folder / "0.png"])


@pytest.mark.parametrize(
    "name",
    ["frame%d.png", "frame%04d.png", "*.png", "frame?.png", "frame[0-9].png", "frame.####.exr", "{a,b}.png", "*/a.png"],
)
def test_a_pattern_is_answered_with_what_to_give(folder, name):
    with pytest.raises(MediaError, match=re.escape(f"{folder / name}: is a pattern") + ".* give the folder"):
        open_frames([folder / name])


def test_a_file_whose_name_looks_like_a_pattern_is_read(folder):
    (folder / "0.png").rename(folder / "frame[0]*.png")
    assert open_frames([folder / "frame[0]*.png", folder / "1.png"]).num_frames == 2


def test_an_address_is_answered_with_what_to_give():
    with pytest.raises(MediaError, match="is an address; download it"):
        open_frames([cast(Path, "https://example.org/a.mp4")])


def test_what_is_there_and_cannot_be_read_is_named(folder):
    (folder / "empty.png").touch()
    (folder / "lost.png").symlink_to("moved.png")
    os.mkfifo(folder / "pipe.png")
    for name, fault in [
        ("empty.png", "is empty"),
        ("lost.png", "is a link to moved.png"),
        ("pipe.png", "is no regular"),
    ]:
        for inputs in ([folder / name], [folder / "0.png", folder / name]):
            with pytest.raises(MediaError, match=re.escape(f"{folder / name}: {fault}")):
                open_frames(inputs)
    with pytest.raises(MediaError, match=r"cannot be looked at \(File name too long\)"):
        open_frames([folder / ("a" * 300)])


def test_different_faults_are_all_named(folder):
    (folder / "empty.png").touch()
    with pytest.raises(MediaError, match=r"a\.png, .*b\.png: no such file or folder; .*empty\.png: is empty"):
        open_frames([folder / "a.png", folder / "empty.png", folder / "b.png"])


@pytest.mark.parametrize(
    ("name", "format"), [("a.webp", "WEBP"), ("a.png", "PNG"), ("a.gif", "GIF"), ("a.jpg", "WEBP")]
)
def test_an_animation_is_a_clip_by_its_content(tmp_path, name, format):
    first, *more = [Image.fromarray(frame) for frame in clips.ramp(4)]
    options = {"lossless": True} if format == "WEBP" else {}
    first.save(tmp_path / name, format=format, save_all=True, append_images=more, duration=40, **options)
    source = open_frames([tmp_path / name])
    assert (source.num_frames, source.fps) == (4, 25)
    assert np.array_equal(np.stack(list(source)), clips.ramp(4))
    assert np.array_equal(last_frame([tmp_path / name]), clips.ramp(4)[3])


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a"])
def test_one_picture_by_its_content(tmp_path, name):
    Image.fromarray(clips.ramp(1)[0]).save(tmp_path / name, format="PNG")
    with pytest.raises(MediaError, match=f"{name}: one picture; .* at least two frames"):
        open_frames([tmp_path / name])
    assert open_frames([tmp_path / name], at_least=1).num_frames == 1
    assert np.array_equal(last_frame([tmp_path / name]), clips.ramp(1)[0])


@pytest.mark.parametrize(("background", "level"), [("black", 0), ("white", 255)])
@pytest.mark.parametrize("name", ["still.png", "a.webp", "a.png", "a.gif"])
def test_what_is_transparent_is_laid_over_the_background_in_every_kind_of_input(
    tmp_path, name, background: Background, level
):
    clear = Image.new("RGBA", (16, 16), (200, 0, 0, 0))
    clear.paste((0, 0, 200, 255), (0, 0, 8, 8))
    other = clear.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    if name != "still.png":
        options |= {"save_all": True, "append_images": [other], "duration": 40}
    clear.save(tmp_path / name, **options)
    frame = next(iter(open_frames([tmp_path / name], at_least=1, background=background)))
    assert frame[12, 12].tolist() == [level] * 3
    assert np.abs(frame[2, 2].astype(int) - (0, 0, 200)).max() < 10


def test_a_video_that_is_called_a_picture_is_a_video(tmp_path):
    shutil.copy(golden.CLIP, tmp_path / "a.png")
    assert open_frames([tmp_path / "a.png"]).num_frames == 4


def test_what_is_called_a_picture_and_is_none_is_refused_as_a_picture(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(MediaError, match=r"a\.png: cannot be read as a picture"):
        open_frames([tmp_path / "a.png"])


def test_mixtures_are_refused(folder):
    with pytest.raises(UsageError, match=r"--input: .*clip\.mp4.*frames; give one video"):
        open_frames([folder / "0.png", golden.CLIP, folder])
    with pytest.raises(UsageError, match="--input: give one video"):
        open_frames([])


def test_importing_the_media_modules_loads_no_codec():
    code = (
        "import sys, jax_interp.media.reader, jax_interp.media.writer, jax_interp.media.pairs;"
        "print([name for name in ('av', 'imageio', 'PIL', 'jax') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
