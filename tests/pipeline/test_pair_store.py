"""What an interrupted run leaves and a later one finds."""

import numpy as np
import pytest

from jax_interp.pipeline.pair_store import PairStore


@pytest.fixture
def frames(rng):
    return rng.integers(0, 256, (10, 4, 6, 3), np.uint8)


def test_pairs_come_back_exactly(tmp_path, frames):
    PairStore(tmp_path / "run", "a").save(0, frames)
    again = PairStore(tmp_path / "run", "a")
    assert again.finished() == 1
    assert np.array_equal(again.load(0), frames)


def test_only_pairs_without_a_gap_count(tmp_path, frames):
    store = PairStore(tmp_path / "run", "a")
    for index in (0, 1, 3):
        store.save(index, frames)
    assert store.finished() == 2


def test_another_run_starts_anew(tmp_path, frames):
    PairStore(tmp_path / "run", "a").save(0, frames)
    assert PairStore(tmp_path / "run", "b").finished() == 0


def test_a_pair_cut_off_while_written_is_not_counted(tmp_path, frames):
    store = PairStore(tmp_path / "run", "a")
    store.save(0, frames)
    (tmp_path / "run" / "partial.npz").write_bytes(b"cut off")
    assert PairStore(tmp_path / "run", "a").finished() == 1


def test_remove(tmp_path, frames):
    store = PairStore(tmp_path / "run", "a")
    store.save(0, frames)
    store.remove()
    assert not (tmp_path / "run").exists()
