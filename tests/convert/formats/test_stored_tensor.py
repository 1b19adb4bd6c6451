import os

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from convert.formats.stored_tensor import FileStamp, StoredTensor, check_layout
from jax_interp.errors import CheckpointError

VALUES = np.arange(24, dtype=np.int16)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "values"
    path.write_bytes(b"head" + VALUES.tobytes())
    return path


def stored(path, shape, offset=4, strides=None, dtype: npt.DTypeLike = np.int16):
    return StoredTensor(shape, np.dtype(dtype), "values: x", FileStamp.of(path), offset, strides)


def test_contiguous(file):
    array = stored(file, (2, 3), 4 + 2 * 5).read()
    np.testing.assert_array_equal(array, VALUES[5:11].reshape(2, 3))
    assert array.flags.owndata
    assert array.flags.writeable


def test_scalar_and_empty(file):
    assert stored(file, ()).read().shape == ()
    assert stored(file, (), 4 + 2 * 9).read() == 9
    assert stored(file, (3, 0, 2)).read().shape == (3, 0, 2)


def test_strided(file):
    np.testing.assert_array_equal(stored(file, (3, 2), strides=(2, 6)).read(), VALUES[:6].reshape(2, 3).T)
    np.testing.assert_array_equal(stored(file, (2, 3), strides=(0, 4)).read(), [[0, 2, 4], [0, 2, 4]])


def test_random_strides_agree_with_numpy(file, rng):
    """Random chains of reshape, transpose, slicing and broadcasting; offsets here are odd, so unaligned for int16."""
    for _ in range(200):
        view = VALUES.reshape([(24,), (2, 12), (2, 3, 4), (4, 1, 6)][rng.integers(4)])
        for axis in range(view.ndim):
            view = view.swapaxes(axis, rng.integers(view.ndim))
            if view.size:
                start = rng.integers(view.shape[axis])
                view = view[(slice(None),) * axis + (slice(start, None, rng.integers(1, 4)),)]
        if rng.random() < 0.3:
            view = np.broadcast_to(view, (2, *view.shape))
        offset = 4 + view.__array_interface__["data"][0] - VALUES.__array_interface__["data"][0]
        tensor = stored(file, view.shape, offset, view.strides)
        check_layout(tensor, 4, VALUES.nbytes)
        np.testing.assert_array_equal(tensor.read(), view)
        assert tensor.read().flags.c_contiguous


def test_bfloat16(tmp_path):
    values = np.arange(6).astype(ml_dtypes.bfloat16)
    (tmp_path / "values").write_bytes(b"\1" + values.tobytes())
    kind = ml_dtypes.bfloat16
    np.testing.assert_array_equal(stored(tmp_path / "values", (6,), 1, dtype=kind).read(), values)
    got = stored(tmp_path / "values", (3, 2), 1, (2, 6), kind).read()
    np.testing.assert_array_equal(got, values.reshape(2, 3).T)
    assert got.dtype == kind


def test_each_read_is_a_fresh_array(file):
    tensor = stored(file, (4,))
    tensor.read()[:] = -1
    np.testing.assert_array_equal(tensor.read(), VALUES[:4])


def test_nbytes(file):
    assert stored(file, (2, 3)).nbytes == 12
    assert stored(file, ()).nbytes == 2
    assert stored(file, (0, 3)).nbytes == 0


def test_a_file_changed_or_removed_since_is_noticed(file):
    tensor = stored(file, (4,))
    os.utime(file, ns=(0, 0))
    with pytest.raises(CheckpointError, match="values: changed after it was opened"):
        tensor.read()
    file.unlink()
    with pytest.raises(CheckpointError, match="values: cannot be read any more"):
        tensor.read()


def test_a_file_that_ends_early_is_noticed(file):
    with pytest.raises(CheckpointError, match="values: x: the file ends inside this tensor"):
        stored(file, (25,)).read()


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((25,), None, 4),
        ((24,), None, 6),
        ((1,), None, 2),
        ((2,), (48,), 4),
        ((2, 2), (44, 4), 4),
        ((1,), (0,), 52),
        ((2,), (-2,), 10),
        ((-1,), None, 4),
        ((1,) * 65, None, 4),
        ((1 << 70,), None, 4),
        ((0, 1 << 40, 1 << 40), None, 4),
        ((1 << 40,), (0,), 4),
    ],
)
def test_layouts_that_do_not_fit_are_refused(file, shape, strides, offset):
    with pytest.raises(CheckpointError, match="values: x: "):
        check_layout(stored(file, shape, offset, strides), 4, VALUES.nbytes)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"), [((24,), None, 4), ((2,), (46,), 4), ((0,), (2,), 999), ((9, 9), (0, 0), 50)]
)
def test_layouts_that_just_fit_are_accepted(file, shape, strides, offset):
    tensor = stored(file, shape, offset, strides)
    check_layout(tensor, 4, VALUES.nbytes)
    assert tensor.read().shape == shape
