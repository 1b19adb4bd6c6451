"""What an interrupted run leaves and a later one finds."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from jax_interp.errors import MediaError
from jax_interp.files.partial import PartialOutput
from jax_interp.pipeline.jobs.pair_store import PairStore
from tests.damages import FILE_DAMAGES


@pytest.fixture
def frames(rng):
    return rng.integers(0, 256, (10, 4, 6, 3), np.uint8)


def test_pairs_come_back_exactly(tmp_path, frames):
    PairStore(tmp_path / "run.mp4", "a").save(0, frames)
    again = PairStore(tmp_path / "run.mp4", "a")
    assert again.finished() == 1
    assert np.array_equal(again.load(0), frames)


def test_what_was_checked_comes_back(tmp_path, frames):
    store = PairStore(tmp_path / "run.mp4", "a")
    store.save(0, frames, {"frames": 10, "guardrails": ["video_safety"]})
    store.save(1, frames)
    assert store.checked(0) == {"frames": 10, "guardrails": ["video_safety"]}
    assert store.checked(1) is None


def test_only_pairs_without_a_gap_count(tmp_path, frames):
    store = PairStore(tmp_path / "run.mp4", "a")
    for index in (0, 1, 3):
        store.save(index, frames)
    assert store.finished() == 2


def test_another_run_neither_sees_nor_deletes_it(tmp_path, frames):
    PairStore(tmp_path / "run.mp4", "a").save(0, frames)
    other = PairStore(tmp_path / "run.mp4", "b")
    assert other.finished() == 0
    other.remove()
    assert PairStore(tmp_path / "run.mp4", "a").finished() == 1


def test_other_runs_of_the_same_result_are_known(tmp_path, frames):
    names = [letter * 12 for letter in "abc"]
    stores = [PairStore(tmp_path / "run.mp4", name) for name in names]
    for store in (*stores, PairStore(tmp_path / "run.x.mp4", names[0]), PairStore(tmp_path / "RUN.mp4", names[0])):
        store.save(0, frames)
    assert stores[1].others() == [stores[0].folder, stores[2].folder]


def test_nothing_is_made_before_the_first_pair(tmp_path):
    PairStore(tmp_path / "run.mp4", "a")
    assert list(tmp_path.iterdir()) == []


def test_a_pair_cut_off_while_written_is_not_counted(tmp_path, frames):
    store = PairStore(tmp_path / "run.mp4", "a")
    store.save(0, frames)
    PartialOutput(store.folder / "000001.npz").path.write_bytes(b"cut off")
    assert PairStore(tmp_path / "run.mp4", "a").finished() == 1


def test_remove(tmp_path, frames):
    store = PairStore(tmp_path / "run.mp4", "a")
    store.save(0, frames)
    store.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_frames_of_a_run_are_known_by_its_claim(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = PairStore(tmp_path / "run.mp4", "a")
    assert not store.claims(tmp_path / "frames")
    store.claim(tmp_path / "frames")
    again = PairStore(tmp_path / "run.mp4", "a")
    assert again.claims(Path("frames"))
    assert not again.claims(tmp_path / "other")
    assert not PairStore(tmp_path / "run.mp4", "b").claims(tmp_path / "frames")
    again.remove()
    assert not again.claims(tmp_path / "frames")


def test_results_of_a_run_are_known_by_what_they_were_before_they_had_their_names(tmp_path):
    store = PairStore(tmp_path / "run.mp4", "a")
    assert store.own_results() == []
    video, frames = tmp_path / "run.mp4", tmp_path / "frames"
    video.write_text("of another run")
    partials = {video: tmp_path / "run.partial.mp4", frames: tmp_path / "frames.partial"}
    partials[video].write_text("new")
    partials[frames].mkdir()
    store.note_results(partials)
    assert store.own_results() == []
    partials[frames].rename(frames)
    assert PairStore(video, "a").own_results() == [frames]
    partials[video].replace(video)
    assert PairStore(video, "a").own_results() == [video, frames]
    assert PairStore(video, "b").own_results() == []
    video.rename(tmp_path / "kept.mp4")
    video.write_text("of another run")
    assert store.own_results() == [frames]
    store.remove()
    assert store.own_results() == []


def not_an_array(path):
    """A zip file, checksums and all, in which the frames are bytes that are no array of numpy's."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("frames.npy", b"none")
        file.writestr("checked.npy", b"none")


def not_frames(path):
    np.savez(path, frames=np.zeros((10, 4), np.uint8), checked="null")


def without_what_was_checked(path):
    np.savez(path, frames=np.load(path)["frames"])


def not_json(path):
    np.savez(path, frames=np.load(path)["frames"], checked="[" * 100_000)


DAMAGES = FILE_DAMAGES | {f.__name__: f for f in (not_an_array, not_frames, without_what_was_checked, not_json)}


@pytest.mark.parametrize("damage", ["folder", "pipe"])
def test_what_is_no_file_is_in_the_way(tmp_path, frames, damage):
    store = PairStore(tmp_path / "run.mp4", "a")
    store.save(0, frames)
    FILE_DAMAGES[damage](store.folder / "000000.npz")
    with pytest.raises(
        MediaError, match=rf"000000\.npz: is not a file; remove {store.folder}, then the run starts anew"
    ):
        store.finished()


def test_a_note_of_results_that_never_ends(tmp_path):
    store = PairStore(tmp_path / "run.mp4", "a")
    store.note_results({})
    FILE_DAMAGES["pipe"](store.folder / "results.json")
    assert store.own_results() == []


@pytest.mark.parametrize(
    "damage", sorted(DAMAGES.keys() - {"longer", "missing", "broken link", "folder", "pipe", "endless link"})
)
def test_a_damaged_pair_and_all_behind_it_are_made_again(tmp_path, frames, damage, caplog):
    store = PairStore(tmp_path / "run.mp4", "a")
    for index in range(3):
        store.save(index, frames)
    DAMAGES[damage](store.folder / "000001.npz")
    assert store.finished(shape=frames.shape) == 1
    assert "000001.npz: damaged (" in caplog.text
    store.save(1, frames)
    assert store.finished(shape=frames.shape) == 3


@pytest.mark.parametrize(
    "content", ["", "[]", "3", "{", '{"x": ', "\udcff", '{"x": "y"}', '{"\\u0000": [1]}', "[" * 100_000]
)
def test_a_damaged_note_of_results_names_none(tmp_path, content):
    store = PairStore(tmp_path / "run.mp4", "a")
    store.note_results({})
    (store.folder / "results.json").write_text(content, errors="surrogateescape")
    assert store.own_results() == []


def test_it_is_the_users_alone(tmp_path, frames):
    store = PairStore(tmp_path / "run.mp4", "a")
    store.save(0, frames)
    assert store.folder.stat().st_mode & 0o777 == 0o700
    store.check_private()
    for rights in (0o777, 0o770):
        store.folder.chmod(rights)
        with pytest.raises(OSError, match="may write there"):
            store.check_private()
    store.folder.chmod(0o700)
    store.folder.rename(tmp_path / "elsewhere")
    store.folder.symlink_to(tmp_path / "elsewhere")
    assert store.finished() == 1
    with pytest.raises(OSError, match="ot a directory"):
        store.check_private()
