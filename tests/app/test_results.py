"""What is made of a finished job, and how long it is kept."""

import json
import zipfile

import numpy as np
import pytest

from jax_interp.app.results import DAY, MOST_PREVIEWS, JobFolder, alignment_of, prune, remove_strays
from jax_interp.app.settings import Limits
from tests.app.conftest import add

IDS = [f"{number:032x}" for number in range(4)]


@pytest.fixture
def folders(office):
    """Finished jobs of 1000 bytes each, one a day."""
    for number, id in enumerate(IDS):
        add(office.store, id, state="done", ended=DAY * number)
        (office.app.jobs_folder / id).mkdir()
        (office.app.jobs_folder / id / "result.mp4").write_bytes(b"x" * 1000)
    return office


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (Limits(), IDS),
        (Limits(kept=2), IDS[2:]),
        (Limits(kept_bytes=1500), IDS[3:]),
        (Limits(kept_days=1.5), IDS[2:]),
    ],
    ids=["all", "number", "bytes", "days"],
)
def test_the_oldest_go_first(folders, limits, left):
    prune(folders.store, folders.app.jobs_folder, limits, now=3 * DAY)
    assert sorted(path.name for path in folders.app.jobs_folder.iterdir()) == left
    assert [id for id in IDS if folders.store.get(id)] == left


def test_a_job_that_is_not_over_stays(folders):
    folders.store.note(IDS[0], state="running")
    assert prune(folders.store, folders.app.jobs_folder, Limits(kept=1), now=3 * DAY) == IDS[1:3]


def test_folders_of_no_job_go(folders):
    (folders.app.jobs_folder / "stray").mkdir()
    (folders.app.jobs_folder / "stray/file").write_bytes(b"1")
    remove_strays(folders.store, folders.app.jobs_folder)
    assert sorted(path.name for path in folders.app.jobs_folder.iterdir()) == IDS


def test_previews_are_small_and_few(tmp_path):
    folder = JobFolder(tmp_path)
    for number in range(1, MOST_PREVIEWS + 3):
        folder.add_preview(number, np.full((10, 480, 640, 3), number, np.uint8))
    assert not folder.preview(2).exists()
    assert folder.preview(3).exists()
    assert len(list(folder.previews.iterdir())) == MOST_PREVIEWS
    assert folder.preview(3).stat().st_size < 2000


def test_nothing_is_left_of_a_job_that_was_blocked_but_its_input(tmp_path):
    folder = JobFolder(tmp_path)
    folder.inputs.mkdir()
    (folder.inputs / "000.mp4").write_bytes(b"1")
    folder.add_preview(1, np.zeros((1, 16, 16, 3), np.uint8))
    folder.video.write_bytes(b"1")
    (folder.path / ".result.0123.unfinished").mkdir()
    folder.remove_work()
    assert [path.name for path in folder.path.rglob("*")] == ["input", "000.mp4"]


def test_the_servers_paths_are_nobodys_business(tmp_path):
    folder = JobFolder(tmp_path / 'jo"b')
    folder.path.mkdir()
    record = {"output": {"video": str(folder.video)}, "input": {"files": [str(folder.inputs / "000.mp4")]}}
    folder.record.write_text(json.dumps(record))
    assert json.loads(folder.public_record()) == {"output": {"video": "result.mp4"}, "input": {"files": ["000.mp4"]}}


def test_the_archive_has_the_frames(tmp_path):
    from jax_interp.app.results import _pack

    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        (frames / f"{number}.png").write_bytes(b"png%d" % number)
    _pack(frames, tmp_path / "frames.zip")
    with zipfile.ZipFile(tmp_path / "frames.zip") as archive:
        assert archive.namelist() == ["0.png", "1.png", "2.png"]
        assert archive.read("2.png") == b"png2"


@pytest.mark.parametrize(
    ("pace", "slow", "kind", "alignment"),
    [
        ("source", "1", "video", "time"),
        ("source", "2", "video", "auto"),
        ("upstream", "1", "video", "auto"),
        ("source", "1", "pictures", "auto"),
    ],
)
def test_a_result_that_keeps_the_time_is_compared_by_time(pace, slow, kind, alignment):
    record = {"input": {"kind": kind}, "timeline": {"pace": pace, "slow_motion": slow}}
    assert alignment_of(record) == alignment
