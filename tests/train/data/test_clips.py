"""Folders of training videos: what is found, and everything wrong with one in one message."""

from dataclasses import replace

import pytest

from jax_interp.errors import MediaError
from jax_interp.train.data.clips import find_clips
from jax_interp.train.data.windows import WindowSettings
from tests.train.training_data import add_clip

SETTINGS = WindowSettings(num_frames=10)
SIZE = {"height": 64, "width": 96}


def test_clips_with_their_captions_and_windows(tmp_path):
    add_clip(tmp_path, "b", frames=10, caption=" A short one.\n")
    add_clip(tmp_path, "a", frames=12)
    (tmp_path / "videos" / "notes.txt").write_text("not a video")
    first, second = find_clips(tmp_path, SETTINGS, **SIZE)
    assert (first.name, second.name) == ("a", "b")
    assert (first.caption, second.caption) == ("Waves.", "A short one.")
    assert [len(clip.windows) for clip in (first, second)] == [3, 1]
    assert first.fps == 24
    [thinned, _] = find_clips(tmp_path, replace(SETTINGS, start_frame_interval=2), **SIZE)
    assert [window.start for window in thinned.windows] == [0, 2]


def test_every_fault_is_in_one_message(tmp_path):
    add_clip(tmp_path, "good")
    add_clip(tmp_path, "silent", caption=None)
    add_clip(tmp_path, "empty", caption="  \n")
    add_clip(tmp_path, "short", frames=9)
    add_clip(tmp_path, "single", frames=1)
    add_clip(tmp_path, "small", size=(48, 96))
    damaged = add_clip(tmp_path, "damaged")
    damaged.write_bytes(damaged.read_bytes()[:400])
    (tmp_path / "metas" / "latin.txt").write_bytes(b"caf\xe9")
    add_clip(tmp_path, "latin", caption=None)
    with pytest.raises(MediaError) as caught:
        find_clips(tmp_path, SETTINGS, **SIZE)
    lines = str(caught.value).splitlines()
    assert "7 fault(s) in 8 video(s)" in lines[0]
    for name, said in {
        "damaged.mp4": "",
        "empty.mp4": "no caption, expected a text in metas/empty.txt",
        "latin.mp4": "no caption",
        "short.mp4": "too short, 9 frame(s), a sample needs 10",
        "silent.mp4": "no caption, expected a text in metas/silent.txt",
        "single.mp4": "too short, 1 frame(s)",
        "small.mp4": "48×96 is smaller than 64×96",
    }.items():
        assert any(name in line and said in line for line in lines[1:]), name
    assert "good" not in str(caught.value)


def test_two_videos_of_one_name_would_share_a_caption(tmp_path):
    path = add_clip(tmp_path, "a")
    path.with_suffix(".mkv").write_bytes(path.read_bytes())
    with pytest.raises(MediaError, match=r"a.mkv: another video has the same name"):
        find_clips(tmp_path, SETTINGS, **SIZE)


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: (path / "videos").mkdir()], ids=["no folder", "empty"]
)
def test_an_empty_folder(tmp_path, make):
    make(tmp_path)
    with pytest.raises(MediaError, match="put the"):
        find_clips(tmp_path, SETTINGS, **SIZE)
