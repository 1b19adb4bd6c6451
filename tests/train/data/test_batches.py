"""Batches from encoded samples: their order, their place, and files that are damaged."""

from pathlib import Path

import numpy as np
import pytest

from jax_interp.config import DiTConfig
from jax_interp.train.data.batches import SampleSource, make_batches
from jax_interp.train.data.encoding import Sample

CONFIG = DiTConfig(width=24, num_heads=2, head_width=12, num_blocks=2, mlp_width=32, text_width=8, grid=(3, 4, 4))


def source_of(folder: Path, count: int = 5) -> SampleSource:
    """Samples whose latents are all their own number."""
    np.savez(folder / "text.npz", text=np.ones((4, 8), np.float32))
    for index in range(count):
        np.savez(folder / f"{index}.npz", latents=np.full((3, 4, 4, 16), index, np.float32))
    fps = [24.0, 30.0]
    samples = [
        Sample(folder / f"{index}.npz", folder / "text.npz", fps[index % 2], "clip", index) for index in range(count)
    ]
    return SampleSource(samples, CONFIG, "float32")


def numbers(batch) -> list[int]:
    return [int(row) for row in batch.latents[:, 0, 0, 0, 0]]


def test_every_pass_has_every_sample_in_another_order(tmp_path):
    batches = make_batches(source_of(tmp_path), 5, seed=1, steps=3)
    passes = [numbers(next(batches)) for _ in range(3)]
    assert all(sorted(found) == [0, 1, 2, 3, 4] for found in passes)
    assert passes[0] != passes[1]
    again = make_batches(source_of(tmp_path), 5, seed=1, steps=3)
    assert [numbers(next(again)) for _ in range(3)] == passes
    other = make_batches(source_of(tmp_path), 5, seed=2, steps=3)
    assert [numbers(next(other)) for _ in range(3)] != passes


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_there_are_enough_batches_whatever_their_size(tmp_path, batch_size):
    batches = make_batches(source_of(tmp_path), batch_size, seed=0, steps=9)
    assert [len(numbers(next(batches))) for _ in range(9)] == [batch_size] * 9


def test_a_place_is_found_again(tmp_path):
    batches = make_batches(source_of(tmp_path), 2, seed=0, steps=8)
    for _ in range(3):
        next(batches)
    place = batches.get_state()
    expected = [numbers(next(batches)) for _ in range(4)]
    again = make_batches(source_of(tmp_path), 2, seed=0, steps=8)
    again.set_state(place)
    assert [numbers(next(again)) for _ in range(4)] == expected


def test_angles_are_those_of_each_samples_rate(tmp_path):
    source = source_of(tmp_path)
    slow, fast = source[0].angles, source[1].angles
    assert slow.shape == (3 * 2 * 2, 6)
    assert not np.array_equal(slow, fast)
    batch = next(make_batches(source, 5, seed=0, steps=1))
    for row, number in enumerate(numbers(batch)):
        assert np.array_equal(batch.angles[row], source[number].angles)


def test_a_damaged_sample_is_named(tmp_path):
    source = source_of(tmp_path)
    (tmp_path / "3.npz").write_bytes(b"PK\x03\x04 cut")
    batches = make_batches(source, 5, seed=0, steps=1)
    with pytest.raises(Exception, match=r"3.npz: damaged or gone.*remove it, and the run encodes it again"):
        next(batches)
