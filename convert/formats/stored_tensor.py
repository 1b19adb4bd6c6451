"""One tensor of a checkpoint file: known by its header, read only when asked for."""

import math
import mmap
import os
import reprlib
import stat
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np

from convert.formats.limits import MAX_AXES
from jax_interp.errors import CheckpointError

MAX_EXPANDED_BYTES = 1 << 30
"""A view that repeats values of its storage (`Tensor.expand`) may be larger than it, but no larger than this."""

_BLOCK_BYTES = 1 << 22
"""Bytes that are read and added to a checksum at once, so that they are still in the processor's cache."""


@dataclass(frozen=True)
class FileStamp:
    """The size and date of a file when its header was read, so that a file replaced since then is noticed."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """Return the stamp of `path` as it is now.

        Raises:
            CheckpointError: it is not a file, but a pipe or a device, which may never end.
        """
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: not a file (a pipe, a socket or a device); copy it to a file first")
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


@dataclass(slots=True)
class ArchiveRecord:
    """A record of an archive: a run of bytes of the file that holds the values of a storage."""

    start: int
    size: int
    crc: int | None = None
    """The CRC-32 that the file states, None if it states none."""
    is_checked: bool = False
    """Whether the bytes were already compared with it."""

    def check(self, file: BufferedReader, source: str) -> None:
        """Read the bytes and compare their CRC-32, unless that was done before; messages name `source`.

        Raises:
            CheckpointError: they have another CRC-32.
        """
        if self.crc is None or self.is_checked:
            return
        crc, block, left = 0, bytearray(min(_BLOCK_BYTES, self.size)), self.size
        file.seek(self.start)
        while left:
            part = memoryview(block)[: min(left, len(block))]
            _fill(file, part, source)
            crc = zlib.crc32(part, crc)
            left -= len(part)
        self.compare(crc, source)

    def compare(self, crc: int, source: str) -> None:
        """Raise `CheckpointError` unless `crc` is the CRC-32 that the file states for the bytes."""
        if crc != self.crc:
            raise CheckpointError(
                f"{source}: its bytes are not those that were saved (CRC-32 {crc:08x}, the archive states"
                f" {self.crc:08x}); the file is damaged: download it again"
            )
        self.is_checked = True


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a checkpoint file, not read yet.

    `source` names file and key for messages. `offset` is the byte of the file where its first value begins; `strides`
    are in bytes, None for a tensor whose values follow each other in row-major order. Values are little-endian, as all
    formats store them. `record` is the record that holds them, None if the file has no checksums. Whoever makes a
    `StoredTensor` has checked it with `check_layout`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    source: str
    stamp: FileStamp
    offset: int
    strides: tuple[int, ...] | None = None
    record: ArchiveRecord | None = None

    @property
    def nbytes(self) -> int:
        """The number of bytes of the array that `read` returns."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """Read the values into a fresh, owned, row-major array.

        Contiguous tensors are read straight into the new array, so the file's pages never count as this process's
        memory. A strided one is copied out of a memory map that is given up before returning. The checksum that the
        file states of the bytes is compared: on the way if they are this tensor's alone, else before, and once.

        Raises:
            CheckpointError: the file is gone, was changed, ends early, or the checksum is another one.
        """
        try:
            with self.stamp.open() as file:
                if self.nbytes == 0:
                    return np.empty(self.shape, self.dtype)
                if self.record is not None and not self._fills(self.record):
                    self.record.check(file, self.source)
                return self._read_contiguous(file) if self.strides is None else self._read_strided(file)
        except OSError as error:
            raise CheckpointError(f"{self.source}: cannot be read ({error.strerror})") from error

    def _fills(self, record: ArchiveRecord) -> bool:
        return self.strides is None and (self.offset, self.nbytes) == (record.start, record.size)

    def _read_contiguous(self, file: BufferedReader) -> np.ndarray:
        array = np.empty(self.shape, self.dtype)
        values = array.reshape(-1).view(np.uint8).data
        compared = self.record if self.record is not None and self._fills(self.record) else None
        crc = 0
        file.seek(self.offset)
        for start in range(0, len(values), _BLOCK_BYTES):
            part = values[start : start + _BLOCK_BYTES]
            _fill(file, part, self.source)
            if compared is not None:
                crc = zlib.crc32(part, crc)
        if compared is not None and compared.crc is not None:
            compared.compare(crc, self.source)
        return array

    def _read_strided(self, file: BufferedReader) -> np.ndarray:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            view = np.ndarray(self.shape, self.dtype, pages, self.offset, self.strides)
            array = np.array(view, order="C")
            del view  # the map cannot be closed while a view of it is alive
        return array


def _fill(file: BufferedReader, part: memoryview, source: str) -> None:
    if file.readinto(part) != len(part):
        raise CheckpointError(f"{source}: the file ends inside this tensor; download it again")


def check_layout(tensor: StoredTensor, start: int, size: int) -> None:
    """Check that every value of `tensor` is within bytes `start` to `start + size` of its file.

    Raises:
        CheckpointError: it does not, or its shape is not one that an array can have.
    """
    if len(tensor.shape) > MAX_AXES or any(length < 0 for length in tensor.shape):
        raise CheckpointError(f"{tensor.source}: impossible shape {reprlib.repr(tensor.shape)}")
    if math.prod(length for length in tensor.shape if length) * tensor.dtype.itemsize > np.iinfo(np.int64).max:
        raise CheckpointError(f"{tensor.source}: shape {reprlib.repr(tensor.shape)} is too large for any array")
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
            f"{tensor.source}: shape {reprlib.repr(tensor.shape)} reaches past the end of its storage of {size} bytes;"
            " the file is damaged: download it again"
        )
    if tensor.nbytes > max(size, MAX_EXPANDED_BYTES):
        raise CheckpointError(
            f"{tensor.source}: repeats a storage of {size} bytes up to {tensor.nbytes} bytes, more than the"
            f" {MAX_EXPANDED_BYTES} allowed"
        )
