"""What an interrupted run leaves and a later one finds."""

from pathlib import Path

import numpy as np
import pytest

from jax_interp.files.partial import Partial
from jax_interp.pipeline.jobs.pair_store import PairStore


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
    Partial(store.folder / "000001.npz").path.write_bytes(b"cut off")
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
