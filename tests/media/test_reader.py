import subprocess
import sys

import imageio.v3 as iio
import numpy as np
import pytest

from jax_interp.errors import MediaError, UsageError
from jax_interp.media.reader import open_frames
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
    two = open_frames([folder / "2.png", str(folder / "0.png")])
    assert two.description["kind"] == "pictures"
    assert two.description["path"] == f"{folder / '2.png'}, {folder / '0.png'}"
    assert np.array_equal(np.stack(list(two)), clips.waves(3)[[2, 0]])


def test_missing_inputs_are_all_named(folder):
    with pytest.raises(MediaError, match=r"a\.png, .*b\.png: no such file or folder"):
        open_frames([folder / "a.png", folder / "0.png", folder / "b.png"])


def test_one_picture_is_not_enough(folder):
    with pytest.raises(MediaError, match=r"0\.png: one picture; .* at least two frames"):
        open_frames([folder / "0.png"])


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
