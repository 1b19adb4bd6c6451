"""One tensor of a checkpoint file: known by its header, read only when asked for."""

import math
import mmap
import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np

from jax_interp.errors import CheckpointError

MAX_DIMENSIONS = 64
"""numpy's limit, and PyTorch's."""

MAX_EXPANDED_BYTES = 1 << 30
"""A view that repeats values of its storage (`Tensor.expand`) may be larger than it, but no larger than this."""


@dataclass(frozen=True)
class FileStamp:
    """What a file looked like when its header was read, so that a file replaced since then is noticed."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """The stamp of `path` as it is now."""
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns)

    def open(self) -> BufferedReader:
        """Open the file for reading.

        Raises:
            CheckpointError: it is gone or no longer the file that was stamped.
        """
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read any more ({error.strerror}); start again") from error
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns):
            file.close()
            raise CheckpointError(
                f"{self.path}: changed after it was opened; wait until it is complete and start again"
            )
        return file


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint file, not read yet.

    `source` names file and key for messages. `offset` is where its first value lies in the file, in bytes; `strides`
    are in bytes, None for a tensor whose values lie one after the other in row-major order. Little-endian, as both
    formats store it. Whoever makes one has checked it with `check_layout`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    source: str
    stamp: FileStamp
    offset: int
    strides: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the array that `read` returns."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """A fresh, owned, row-major array.

        Contiguous tensors are read straight into the new array, so the file's pages never count as this process's
        memory. A strided one is copied out of a memory map that is given up before returning.

        Raises:
            CheckpointError: the file is gone, was changed, or ends early.
        """
        try:
            with self.stamp.open() as file:
                if self.nbytes == 0:
                    return np.empty(self.shape, self.dtype)
                return self._read_contiguous(file) if self.strides is None else self._read_strided(file)
        except OSError as error:
            raise CheckpointError(f"{self.source}: cannot be read ({error.strerror})") from error

    def _read_contiguous(self, file: BufferedReader) -> np.ndarray:
        array = np.empty(self.shape, self.dtype)
        file.seek(self.offset)
        if file.readinto(array.reshape(-1).view(np.uint8).data) != self.nbytes:
            raise CheckpointError(f"{self.source}: the file ends inside this tensor; download it again")
        return array

    def _read_strided(self, file: BufferedReader) -> np.ndarray:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            view = np.ndarray(self.shape, self.dtype, pages, self.offset, self.strides)
            array = np.array(view, order="C")
            del view  # the map cannot be closed while a view of it is alive
        return array


def check_layout(tensor: StoredTensor, start: int, size: int) -> None:
    """Check that every value of `tensor` lies in bytes `start` to `start + size` of its file.

    Raises:
        CheckpointError: it does not, or its shape is not one that an array can have.
    """
    if len(tensor.shape) > MAX_DIMENSIONS or any(length < 0 for length in tensor.shape):
        raise CheckpointError(f"{tensor.source}: impossible shape {tensor.shape[:MAX_DIMENSIONS]}")
    if math.prod(length for length in tensor.shape if length) * tensor.dtype.itemsize > np.iinfo(np.int64).max:
        raise CheckpointError(f"{tensor.source}: shape {tensor.shape} is too large for any array")
    if tensor.nbytes == 0:
        return
    reach = tensor.nbytes
    if tensor.strides is not None:
        if any(stride < 0 for stride in tensor.strides):
            raise CheckpointError(
                f"{tensor.source}: negative strides, which PyTorch does not have; the file is damaged"
            )
        steps = zip(tensor.shape, tensor.strides, strict=True)
        reach = sum((length - 1) * stride for length, stride in steps) + tensor.dtype.itemsize
    if tensor.offset < start or tensor.offset + reach > start + size:
        raise CheckpointError(
            f"{tensor.source}: shape {tensor.shape} reaches past the end of its storage of {size} bytes;"
            " the file is damaged: download it again"
        )
    if tensor.nbytes > max(size, MAX_EXPANDED_BYTES):
        raise CheckpointError(
            f"{tensor.source}: repeats a storage of {size} bytes up to {tensor.nbytes} bytes, more than the"
            f" {MAX_EXPANDED_BYTES} allowed"
        )
