"""Read the index of a PyTorch zip archive: `.pt`, `.pth`, `.bin` of `torch.save` and `.jit`, `.ts` of `torch.jit.save`.

Tensors are stored uncompressed in the archive, so each is a range of bytes of the file: only the pickle is read here,
by `convert.formats.pytorch.unpickle`, which cannot run anything. `code/` and `constants.pkl` of TorchScript are
not looked at.

The archive's directory states a CRC-32 of every record. That of the pickle is compared here, that of a storage when its
tensors are read; so a bit that flipped on the way is noticed. PyTorch can leave them out
(`torch.serialization.set_crc32_options(False)`): then all of them are zero, and there is nothing to compare.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from convert.formats.limits import MAX_TEXT_BYTES
from convert.formats.names import shown
from convert.formats.pytorch.named_views import named_views
from convert.formats.pytorch.pickle_globals import Storage, TensorView
from convert.formats.pytorch.unpickle import unpickle
from convert.formats.pytorch.zip_directory import DamagedDirectory, first_byte, read_directory
from convert.formats.stored_tensor import ArchiveRecord, FileStamp, StoredTensor, check_layout
from jax_interp.errors import CheckpointError


def open_torch_archive(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of an archive by state-dict name; only the zip directory and the pickle are read.

    Nested dicts, lists and tuples give names joined with "."; a tensor saved alone is named "0". Numbers, text and
    None are left out. For TorchScript, names are the attribute paths of the modules: those of `state_dict()`,
    non-persistent buffers included, because TorchScript drops that distinction. A scripted (not traced) module's
    plain tensor attributes appear too: only its code tells them from buffers, and code is not interpreted.

    Raises:
        CheckpointError: the archive is damaged, names a forbidden global, holds something that is no tensor, or more
            than `convert.formats.limits` allows.
    """
    with _Archive.open(path) as archive:
        if archive.text("byteorder", "little") != "little":
            raise CheckpointError(f"{path}: was written on a big-endian machine; save it again on a little-endian one")
        views = named_views(unpickle(archive.read("data.pkl", MAX_TEXT_BYTES), str(path)), str(path))
        return {
            key: locate_tensor(view, archive.stamp, archive.storage(view.storage), f"{path.name}: {shown(key)}")
            for key, view in views.items()
        }


def locate_tensor(view: TensorView, stamp: FileStamp, record: ArchiveRecord, source: str) -> StoredTensor:
    """Check `view` against its storage in `record` and return it as a tensor of the file.

    Raises:
        CheckpointError: the storage has another length than the pickle says, or the tensor reaches past its end.
    """
    _check_storage(view.storage, record.size, source)
    width = view.dtype.itemsize
    steps = zip(view.shape, view.strides, strict=True)
    strides = None if _is_contiguous(view) else tuple(0 if n == 1 else step * width for n, step in steps)
    offset = record.start + view.offset * width
    checksum = record if record.crc is not None else None
    tensor = StoredTensor(view.shape, view.dtype, source, stamp, offset, strides, checksum)
    check_layout(tensor, record.start, record.size)
    return tensor


class _Archive:
    """An open zip archive, whose records are looked up by name and not read."""

    def __init__(self, stamp: FileStamp, file: BufferedReader):
        self.stamp = stamp
        self._file = file
        self._records: dict[str, ArchiveRecord] = {}
        try:
            self._entries = read_directory(file, stamp.size)
        except DamagedDirectory as error:
            raise CheckpointError(
                f"{stamp.path}: starts like a PyTorch archive but has no readable directory at its end ({error});"
                " the download was cut short: download it again"
            ) from error
        pickles = [name for name in self._entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if not pickles:
            raise CheckpointError(f"{stamp.path}: a zip file, but not a PyTorch archive (no data.pkl in it)")
        self._root = min(pickles, key=lambda name: name.count("/")).removesuffix("data.pkl")

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["_Archive"]:
        stamp = FileStamp.of(path)
        with stamp.open() as file:
            yield cls(stamp, file)

    def storage(self, storage: Storage) -> ArchiveRecord:
        """Return the record that holds the values of a storage.

        Raises:
            CheckpointError: there is no such record, or it is compressed or encrypted, or lies outside the file.
        """
        if storage.key not in self._records:
            self._records[storage.key] = self._find(f"data/{storage.key}")
        return self._records[storage.key]

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of a small record; they have the CRC-32 that the archive states."""
        record = self._find(name)
        where = f"{self.stamp.path}: record {name}"
        if record.size > limit:
            raise CheckpointError(f"{where} has {record.size} bytes, more than the {limit} that are read")
        self._file.seek(record.start)
        data = self._file.read(record.size)
        if record.crc is not None:
            record.compare(zlib.crc32(data), where)
        return data

    def text(self, name: str, default: str) -> str:
        """Return a record of a few letters, or `default` if the archive has none (it is older than the record)."""
        if self._root + name not in self._entries:
            return default
        return self.read(name, 64).decode("ascii", "replace").strip()

    def _find(self, name: str) -> ArchiveRecord:
        entry = self._entries.get(self._root + name)
        if entry is None:
            raise CheckpointError(
                f"{self.stamp.path}: has no record {shown(name)}; the archive is damaged: download it again"
            )
        if not entry.is_plain:
            raise CheckpointError(
                f"{self.stamp.path}: record {shown(entry.name)} is compressed or encrypted, which PyTorch never does;"
                " the archive was packed again: unpack it and use the original file, or save it once more with"
                " torch.save"
            )
        try:
            start = first_byte(self._file, entry)
        except DamagedDirectory as error:
            raise CheckpointError(f"{self.stamp.path}: {error}; the archive is damaged: download it again") from error
        return ArchiveRecord(start, entry.size, entry.crc or None)


def _check_storage(storage: Storage, size: int, source: str) -> None:
    if storage.numel != size // storage.itemsize:
        raise CheckpointError(
            f"{source}: its storage {shown(storage.key)} should have {storage.numel} values of {storage.itemsize} bytes"
            f" but has {size} bytes in the file, which is damaged: download it again"
        )


def _is_contiguous(view: TensorView) -> bool:
    """Tell whether `view` is row-major without gaps; the stride of an axis of length 1 means nothing."""
    expected = 1
    for length, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True
