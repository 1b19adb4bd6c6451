from typing import cast

import jax.numpy as jnp
import numpy as np
import pytest

from jax_interp.errors import MediaError
from jax_interp.media.reader import open_frames
from jax_interp.media.writer import FrameWriter, PngWriter, TeeWriter, VideoWriter
from tests.media import clips
from tests.media.clips import names


class Recorder:
    """A writer that notes what happens to it."""

    def __init__(self, log: list[str], name: str, fails: str = ""):
        self.log, self.name, self.fails, self.num_frames = log, name, fails, 0

    def note(self, event: str) -> None:
        self.log.append(f"{self.name} {event}")
        if self.fails == event:
            raise MediaError(f"{self.name} failed in {event}")

    def __enter__(self):
        self.note("enter")
        return self

    def write(self, frames):
        self.note("write")
        self.num_frames += len(frames)

    def __exit__(self, kind, error, trace):
        self.note("discard" if kind else "commit")


def test_pngs_are_frame_exact_with_the_video(tmp_path):
    truth = clips.waves(7)
    video, frames = tmp_path / "out.mkv", tmp_path / "frames"
    writers: list[FrameWriter] = [PngWriter(frames), VideoWriter(video, 24, clips.HEIGHT, clips.WIDTH, codec="ffv1")]
    with TeeWriter(*writers) as writer:
        writer.write(truth[:5])
        writer.write(cast(np.ndarray, jnp.asarray(truth[5:])))
        assert writer.num_frames == 7
    assert np.array_equal(np.stack(list(open_frames([frames]))), truth)
    assert np.array_equal(np.stack(list(open_frames([video]))), truth)


def test_all_writers_commit_or_all_discard():
    log: list[str] = []
    with TeeWriter(Recorder(log, "a"), Recorder(log, "b")) as writer:
        writer.write(clips.ramp(2))
    assert log == ["a enter", "b enter", "a write", "b write", "b commit", "a commit"]


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        ("enter", ["a enter", "b enter", "a discard"]),
        ("write", ["a enter", "b enter", "a write", "b write", "b discard", "a discard"]),
        ("commit", ["a enter", "b enter", "a write", "b write", "b commit", "a discard"]),
    ],
)
def test_one_failure_makes_the_others_discard(fails, expected):
    log: list[str] = []
    tee = TeeWriter(Recorder(log, "a"), Recorder(log, "b", fails))
    with pytest.raises(MediaError, match=f"b failed in {fails}"), tee as writer:
        writer.write(clips.ramp(2))
    assert log == expected


def test_an_interrupt_leaves_neither_video_nor_pictures(tmp_path):
    video = VideoWriter(tmp_path / "out.mp4", 24, clips.HEIGHT, clips.WIDTH)

    def interrupted():
        with TeeWriter(video, PngWriter(tmp_path / "frames")) as writer:
            writer.write(clips.ramp(2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []
