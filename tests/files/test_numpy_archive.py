"""Reading numpy's archives: whole ones, damaged ones, and files that are none."""

import io
import zipfile

import numpy as np
import pytest

from jax_interp.files.numpy_archive import ArchiveFault, read_archive

ARRAYS = {
    "small": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "bytes": np.random.default_rng(0).integers(0, 4, (5, 7, 3), np.uint8),
}
FLIPS = 300


def archive(save) -> bytes:
    file = io.BytesIO()
    save(file, **ARRAYS)
    return file.getvalue()


def entry_without_array() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as stored:
        stored.writestr("small.npy", b"text")
    return file.getvalue()


def plain_array() -> bytes:
    file = io.BytesIO()
    np.save(file, ARRAYS["small"])
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, small=np.array([object()], dtype=object))
    return file.getvalue()


def test_all_arrays_or_those_of_the_names(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(archive(np.savez))
    assert read_archive(path).keys() == ARRAYS.keys()
    [(name, array)] = read_archive(path, "small").items()
    assert name == "small"
    np.testing.assert_array_equal(array, ARRAYS["small"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_of_a_flipped_bit_comes_a_fault_or_what_was_saved(tmp_path, save):
    whole, draw, path = archive(save), np.random.default_rng(0), tmp_path / "a.npz"
    faults = 0
    for bit in draw.choice(8 * len(whole), FLIPS, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        try:
            found = read_archive(path)
        except ArchiveFault:
            faults += 1
        else:
            for name in found.keys() & ARRAYS.keys():
                np.testing.assert_array_equal(found[name], ARRAYS[name])
    assert faults > FLIPS // 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 cut", "BadZipFile"),
        (plain_array(), "TypeError|AttributeError"),
        (entry_without_array(), "small is no array"),
        (pickled(), "allow_pickle=False"),
        (archive(np.savez).replace(b"small", b"other"), "KeyError: .*small"),
        (b"", "EOFError"),
    ],
)
def test_what_is_no_such_archive_is_a_fault(tmp_path, content, message):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ArchiveFault, match=message):
        read_archive(path, "small")


def test_an_absent_file_is_a_fault(tmp_path):
    with pytest.raises(ArchiveFault, match="FileNotFoundError"):
        read_archive(tmp_path / "a.npz")


def test_of_too_little_memory_the_file_is_not_accused(tmp_path, monkeypatch):
    def exhausted(*arguments, **options):
        raise MemoryError

    path = tmp_path / "a.npz"
    path.write_bytes(archive(np.savez))
    monkeypatch.setattr(np, "load", exhausted)
    with pytest.raises(MemoryError):
        read_archive(path)
