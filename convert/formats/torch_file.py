"""Read the index of a PyTorch zip archive: `.pt`, `.pth`, `.bin` of `torch.save` and `.jit`, `.ts` of `torch.jit.save`.

Tensors lie uncompressed in the archive, so each one is a place in the file: nothing but the pickle is read here, and
that by `convert.formats.unpickle`, which cannot run anything. `code/` and `constants.pkl` of TorchScript are not looked
at.
"""

import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert.formats.pickle_globals import ModuleRecord, Opaque, Storage, TensorView
from convert.formats.stored_tensor import FileStamp, StoredTensor, check_layout
from convert.formats.unpickle import unpickle
from jax_interp.errors import CheckpointError

MAX_PICKLE_BYTES = 1 << 24
MAX_DEPTH = 100
MAX_NAME = 4096
MAX_VALUES = 200_000
"""Limits on what a pickle may describe; the largest real state dicts hold a few thousand values, three levels deep."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")


def open_torch_archive(path: Path) -> dict[str, StoredTensor]:
    """The tensors of an archive by state-dict name; only the zip directory and the pickle are read.

    Nested dicts, lists and tuples give names joined with "."; a tensor saved alone is named "0". Numbers, text and
    None are left out. For TorchScript, names are the attribute paths of the modules: those of `state_dict()`,
    non-persistent buffers included, because TorchScript drops that distinction. A scripted (not traced) module's
    plain tensor attributes appear too: only its code tells them from buffers, and code is not interpreted.

    Raises:
        CheckpointError: the archive is damaged, names a forbidden global, or holds something that is no tensor.
    """
    archive = _Archive(path)
    if archive.text("byteorder", "little") != "little":
        raise CheckpointError(f"{path}: was written on a big-endian machine; save it again on a little-endian one")
    views = named_views(unpickle(archive.read("data.pkl", MAX_PICKLE_BYTES), str(path)), str(path))
    return {
        key: locate_tensor(view, archive.stamp, archive.place(f"data/{view.storage.key}"), f"{path.name}: {key}")
        for key, view in views.items()
    }


def named_views(content: Any, file: str) -> dict[str, TensorView]:
    """The tensors that the pickle of `file` described, by state-dict name.

    Raises:
        CheckpointError: there are none, or there is something that is neither a tensor, a number nor a container.
    """
    views = _Names(file)
    views.collect(content, "")
    if not views.found:
        raise CheckpointError(
            f"{file}: holds no tensors. A frozen TorchScript module keeps its weights without names:"
            " use the file from before torch.jit.freeze, or its state_dict()"
        )
    return views.found


def locate_tensor(view: TensorView, stamp: FileStamp, place: tuple[int, int], source: str) -> StoredTensor:
    """Check `view` against its storage at `place` (first byte, length) and make it a place in the file.

    Raises:
        CheckpointError: the storage has another length than the pickle says, or the tensor reaches past its end.
    """
    start, size = place
    _check_storage(view.storage, size, source)
    width = view.dtype.itemsize
    steps = zip(view.shape, view.strides, strict=True)
    strides = None if _is_contiguous(view) else tuple(0 if n == 1 else step * width for n, step in steps)
    tensor = StoredTensor(view.shape, view.dtype, source, stamp, start + view.offset * width, strides)
    check_layout(tensor, start, size)
    return tensor


class _Archive:
    """A zip file as a list of places. CRCs are not checked: PyTorch can leave them out."""

    def __init__(self, path: Path):
        self.stamp = FileStamp.of(path)
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, EOFError) as error:
            raise CheckpointError(
                f"{path}: starts like a PyTorch archive but has no readable directory at its end ({error});"
                " the download was cut short: download it again"
            ) from error
        self.entries = {entry.filename: entry for entry in entries}
        if len(self.entries) != len(entries):
            raise CheckpointError(f"{path}: has two records of one name; the archive is damaged: download it again")
        pickles = [name for name in self.entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if not pickles:
            raise CheckpointError(f"{path}: a zip file, but not a PyTorch archive (no data.pkl in it)")
        self.root = min(pickles, key=lambda name: name.count("/")).removesuffix("data.pkl")
        self._places: dict[str, tuple[int, int]] = {}

    def place(self, name: str) -> tuple[int, int]:
        """First byte in the file and length of the record `name`, below the root folder.

        Raises:
            CheckpointError: there is none, it is compressed or encrypted, or it lies outside the file.
        """
        if name not in self._places:
            entry = self.entries.get(self.root + name)
            if entry is None:
                raise CheckpointError(
                    f"{self.stamp.path}: has no record {name}; the archive is damaged: download it again"
                )
            self._places[name] = self._find(entry)
        return self._places[name]

    def _find(self, entry: zipfile.ZipInfo) -> tuple[int, int]:
        where = f"{self.stamp.path}: record {entry.filename}"
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.compress_size != entry.file_size:
            raise CheckpointError(
                f"{where} is compressed or encrypted, which PyTorch never does; the archive was packed again:"
                " unpack it and use the original file, or save it once more with torch.save"
            )
        if not 0 <= entry.header_offset <= self.stamp.size - _LOCAL_HEADER.size:
            raise CheckpointError(f"{where} does not lie in the file; download it again")
        with self.stamp.open() as file:
            file.seek(entry.header_offset)
            header = file.read(_LOCAL_HEADER.size)
        # The name and padding in front of the values have their own lengths here, so the directory does not tell.
        magic, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if magic != b"PK\x03\x04" or start + entry.file_size > self.stamp.size:
            raise CheckpointError(f"{where} does not lie where the directory says; download it again")
        return start, entry.file_size

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a small record."""
        start, size = self.place(name)
        if size > limit:
            raise CheckpointError(f"{self.stamp.path}: record {name} has {size} bytes, more than the {limit} allowed")
        with self.stamp.open() as file:
            file.seek(start)
            return file.read(size)

    def text(self, name: str, default: str) -> str:
        """A record of a few letters, or `default` if the archive has none (it is older than the record)."""
        if self.root + name not in self.entries:
            return default
        return self.read(name, 64).decode("ascii", "replace").strip()


def _check_storage(storage: Storage, size: int, source: str) -> None:
    if storage.numel != size // storage.itemsize:
        raise CheckpointError(
            f"{source}: its storage {storage.key} should have {storage.numel} values of {storage.itemsize} bytes but"
            f" has {size} bytes in the file, which is damaged: download it again"
        )


def _is_contiguous(view: TensorView) -> bool:
    """Row-major without gaps; the stride of an axis of length 1 means nothing."""
    expected = 1
    for length, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True


@dataclass
class _Names:
    """Walks what a pickle described and gives every tensor its state-dict name."""

    file: str
    found: dict[str, TensorView] = field(default_factory=dict)
    visited: int = 0
    parents: list[int] = field(default_factory=list)

    def collect(self, value: Any, key: str) -> None:
        """Add the tensors in `value`, which has the name `key`, to `found`."""
        self.visited += 1
        if self.visited > MAX_VALUES or len(key) > MAX_NAME:
            raise CheckpointError(
                f"{self.file}: describes more than {MAX_VALUES} values, or one whose name has more than {MAX_NAME}"
                " letters; that is no state dict"
            )
        if isinstance(value, TensorView):
            self._add(value, key or "0")
        elif isinstance(value, ModuleRecord):
            members = value.attributes.items()
            self._descend(value, key, (item for item in members if isinstance(item[1], TensorView | ModuleRecord)))
        elif isinstance(value, dict):
            self._descend(value, key, ((str(name), member) for name, member in value.items()))
        elif isinstance(value, list | tuple):
            self._descend(value, key, ((str(index), member) for index, member in enumerate(value)))
        elif not _is_ignorable(value, key):
            kind = value.kind if isinstance(value, Opaque) else type(value).__name__
            raise CheckpointError(
                f"{self.file}: {key or 'its content'} is neither a tensor, a number nor a container but {kind}"
            )

    def _add(self, view: TensorView, key: str) -> None:
        if key in self.found:
            raise CheckpointError(f"{self.file}: two tensors have the name {key}")
        self.found[key] = view

    def _descend(self, container: Any, key: str, members: Iterable[tuple[str, Any]]) -> None:
        if id(container) in self.parents or len(self.parents) >= MAX_DEPTH:
            raise CheckpointError(
                f"{self.file}: {key[:200]} contains itself or is nested deeper than {MAX_DEPTH} levels"
            )
        self.parents.append(id(container))
        for name, member in members:
            self.collect(member, f"{key}.{name}" if key else name)
        self.parents.pop()


def _is_ignorable(value: Any, key: str) -> bool:
    """Numbers, text and dtypes are no weights; leftovers of Transformer Engine lie below `_extra_state` as bytes."""
    if isinstance(value, Opaque):
        return any(part.endswith("_extra_state") for part in key.split("."))
    return value is None or isinstance(value, str | int | float | np.dtype)
