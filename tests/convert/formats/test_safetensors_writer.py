import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from convert.formats.archive import open_archive
from convert.formats.safetensors_writer import Entry, write_safetensors

TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(2.5, np.float16),
    "empty": np.zeros((0, 4), np.int64),
    "b": np.arange(5, dtype=np.uint8),
}


def entry(key, array):
    return Entry(key, array.shape, array.dtype, lambda: array)


def test_the_safetensors_package_reads_the_same(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, [entry(key, array) for key, array in TENSORS.items()])
    read = load_file(path)
    assert list(read) == list(TENSORS) or set(read) == set(TENSORS)
    for key, array in TENSORS.items():
        assert (read[key].shape, read[key].dtype) == (array.shape, array.dtype)
        assert read[key].tobytes() == array.tobytes()


def test_bfloat16_and_transposed_arrays_survive(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).astype(ml_dtypes.bfloat16).T
    write_safetensors(tmp_path / "x.safetensors", [entry("w", array)])
    read = open_archive(tmp_path / "x.safetensors")["w"].read()
    assert read.dtype == ml_dtypes.bfloat16
    assert read.tobytes() == np.ascontiguousarray(array).tobytes()


def test_values_start_at_a_multiple_of_eight(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", [entry("odd", np.zeros(3, np.uint8))])
    assert int.from_bytes((tmp_path / "x.safetensors").read_bytes()[:8], "little") % 8 == 0


def test_one_tensor_is_made_at_a_time(tmp_path):
    path, sizes = tmp_path / "x.safetensors", []

    def make():
        sizes.append(path.stat().st_size)
        return np.zeros(1 << 16, np.uint8)

    write_safetensors(path, [Entry(str(i), (1 << 16,), np.dtype(np.uint8), make) for i in range(3)])
    assert sizes[2] - sizes[1] >= (1 << 16) - (1 << 14)


def test_a_promise_that_is_not_kept_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="w: float32"):
        write_safetensors(
            tmp_path / "x.safetensors", [Entry("w", (3,), np.dtype(np.float16), lambda: np.zeros(3, np.float32))]
        )


def test_an_existing_file_is_not_overwritten(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_safetensors(path, [])
    assert path.read_text() == "mine"
