from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from convert.formats.archive import open_archive
from convert.mapping.matching import plan_leaves
from convert.mapping.ops import transpose
from convert.mapping.rules import Rule
from convert.target.finite import FiniteCheck
from convert.target.streams import stream
from jax_interp.errors import CheckpointError
from tests.convert.checkpoints import write_tensors
from tests.convert.mapping.test_matching import struct

RULES = (Rule("l.{i}.w", "stack", transpose), Rule("w", "one", transpose), Rule("n", "steps"))
ABSTRACT = {"stack": struct(5, 3, 2), "one": struct(4, 3), "steps": struct(2)}


@pytest.fixture
def tensors(tmp_path, rng):
    arrays = {f"l.{i}.w": rng.standard_normal((2, 3), np.float32) for i in range(5)}
    arrays |= {"w": rng.standard_normal((3, 4)), "n": np.arange(2)}
    write_tensors(tmp_path / "x.safetensors", arrays)
    return arrays, open_archive(tmp_path / "x.safetensors")


def streams(stored, dtype=None, advance: Callable[[int], object] = int):
    return {leaf.path: stream(leaf, stored, dtype, advance) for leaf in plan_leaves(RULES, ABSTRACT)}


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_layers_come_in_order_and_transposed(tensors, rows):
    arrays, stored = tensors
    pieces = list(streams(stored)["stack"].pieces(rows))
    assert [len(piece) for piece in pieces] == {1: [1] * 5, 2: [2, 2, 1], 5: [5]}[rows]
    np.testing.assert_array_equal(np.concatenate(pieces), np.stack([arrays[f"l.{i}.w"].T for i in range(5)]))


def test_an_array_that_is_no_stack_comes_in_rows(tensors):
    arrays, stored = tensors
    pieces = list(streams(stored)["one"].pieces(3))
    assert [len(piece) for piece in pieces] == [3, 1]
    np.testing.assert_array_equal(np.concatenate(pieces), arrays["w"].T.astype(np.float32))


def test_dtypes_stay_but_float64_becomes_float32(tensors):
    found = {path: str(array.dtype) for path, array in streams(tensors[1]).items()}
    assert found == {"stack": "float32", "one": "float32", "steps": "int64"}


def test_a_wanted_dtype_is_for_floating_arrays(tensors):
    arrays, stored = tensors
    found = streams(stored, "bfloat16")
    assert {path: str(array.dtype) for path, array in found.items()} == {
        "stack": "bfloat16",
        "one": "bfloat16",
        "steps": "int64",
    }
    (piece,) = found["stack"].pieces(5)
    np.testing.assert_array_equal(piece[2], arrays["l.2.w"].T.astype(ml_dtypes.bfloat16))


def test_no_layer_is_read_before_its_turn(tensors):
    done = []
    pieces = streams(tensors[1], advance=done.append)["stack"].pieces(2)
    next(pieces)
    assert done == [24, 24]
    assert [len(piece) for piece in pieces] == [2, 1]
    assert done == [24] * 5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_key(tmp_path, bad):
    values = np.zeros((2, 3), np.float32)
    arrays = {f"l.{i}.w": np.where(i == 3, np.float32(bad), values) for i in range(5)}
    write_tensors(tmp_path / "x.safetensors", arrays | {"w": np.zeros((3, 4)), "n": np.arange(2)})
    stored = open_archive(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"x\.safetensors: l\.3\.w: .* of 6 weights"):
        list(streams(stored)["stack"].pieces(5))
    check = FiniteCheck(refuses=False)
    leaves = {leaf.path: stream(leaf, stored, None, int, check) for leaf in plan_leaves(RULES, ABSTRACT)}
    (piece,) = leaves["stack"].pieces(5)
    np.testing.assert_array_equal(piece[3], arrays["l.3.w"].T)
    assert len(check.found) == 1


def test_numbers_too_large_for_their_dtype_are_noticed(tmp_path):
    """As float32 they are infinite: float64 has numbers that it does not, and float32 such that bfloat16 does not."""
    for values, dtype in ((np.full((3, 4), 1e300), None), (np.full((3, 4), 3.4e38, np.float32), "bfloat16")):
        path = tmp_path / f"{values.dtype}.safetensors"
        write_tensors(
            path, {f"l.{i}.w": np.zeros((2, 3), np.float32) for i in range(5)} | {"w": values, "n": np.arange(2)}
        )
        with pytest.raises(CheckpointError, match="w: 0 NaN and 12 infinite"):
            list(streams(open_archive(path), dtype)["one"].pieces(4))
