"""Builds checkpoint archives that PyTorch would not write: hand-made pickles, sparse records, wrong sizes.

torch is imported by what needs it alone, so that hostile pickles are refused in tests that run without it.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from convert.formats.stored_tensor import StoredTensor

if TYPE_CHECKING:
    import torch

RECORD = np.arange(12, dtype=np.float32)
"""What `write_archive` stores as record `data/0` unless told otherwise."""


def _float_storage() -> Any:
    import torch

    return torch.FloatStorage


@dataclass
class FakeStorage:
    """Becomes a persistent id as torch.save writes it, whatever its numbers say."""

    numel: Any = RECORD.size
    key: Any = "0"
    kind: Any = field(default_factory=_float_storage)


@dataclass
class FakeTensor:
    """Becomes a call of `_rebuild_tensor_v2`, whatever its numbers say."""

    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    offset: Any = 0
    storage: Any = field(default_factory=FakeStorage)

    def __reduce__(self):
        import torch._utils

        args = (self.storage, self.offset, self.shape, self.strides, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, args


@dataclass
class Call:
    """Becomes a call of `function`, which the reader must refuse."""

    function: Any
    args: tuple[Any, ...]

    def __reduce__(self):
        return self.function, self.args


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return ("storage", obj.kind, obj.key, "cpu", obj.numel) if isinstance(obj, FakeStorage) else None


def pickled(value: Any, protocol: int = 2) -> bytes:
    """`value` as torch.save would pickle it."""
    file = BytesIO()
    _Pickler(file, protocol).dump(value)
    return file.getvalue()


def write_archive(path: Path, value: Any, root: str = "archive/", **records: bytes) -> Path:
    """An archive with the pickle of `value` (or `value` itself, if bytes), `RECORD` as record 0 and more `records`."""
    data = value if isinstance(value, bytes) else pickled(value)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"data.pkl": data, "data/0": RECORD.tobytes(), **records}.items():
            archive.writestr(root + name, content)
    return path


def write_sparse(path: Path, sizes: list[int], last: bytes = b"") -> Path:
    """An archive of one uint8 tensor `t<i>` a size, all holes on the disk, but for the `last` bytes of the last one."""
    import torch

    tensors = {
        f"t{i}": FakeTensor((size,), (1,), storage=FakeStorage(size, str(i), torch.ByteStorage))
        for i, size in enumerate(sizes)
    }
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(tensors))
        for i, size in enumerate(sizes):
            record = zipfile.ZipInfo(f"archive/data/{i}")
            record.file_size = record.compress_size = size
            record.CRC = 0
            record.header_offset = file.seek(archive.start_dir)
            file.write(record.FileHeader())
            end = file.tell() + size
            file.seek(end - len(last))
            file.write(last if i + 1 == len(sizes) else b"")
            archive.start_dir = end
            archive.filelist.append(record)
        archive.writestr("archive/version", "3\n")
    return path


def assert_same(ours: dict[str, StoredTensor], theirs: dict[str, torch.Tensor]) -> None:
    """Same names, and of every tensor the same shape, dtype and bytes; arrays are owned and row-major."""
    import torch

    assert sorted(ours) == sorted(theirs)
    for key, tensor in theirs.items():
        stored, array = ours[key], ours[key].read()
        assert array.shape == stored.shape == tuple(tensor.shape), key
        assert array.dtype == stored.dtype == numpy_dtype(tensor.dtype), key
        assert array.nbytes == stored.nbytes
        assert array.flags.owndata
        assert array.flags.c_contiguous
        assert array.flags.writeable
        values = (
            tensor.detach()
            .resolve_conj()
            .resolve_neg()
            .clone(memory_format=torch.contiguous_format)
            .reshape(-1)
            .view(torch.uint8)
        )
        assert array.tobytes() == values.numpy().tobytes(), key


def numpy_dtype(dtype: torch.dtype) -> np.dtype:
    """The numpy dtype of the same name."""
    name = str(dtype).removeprefix("torch.")
    return np.dtype(getattr(ml_dtypes, name, name))
