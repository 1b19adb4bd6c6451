"""Read the header of a `.safetensors` file.

The reader is our own because the safetensors package gives numpy neither bfloat16 nor float8 and maps the whole file.
The format is a length, a JSON header and the values (https://github.com/huggingface/safetensors, "Format"). It has no
checksums.
"""

import math
import reprlib
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from convert.formats.foreign_json import parse_foreign_json
from convert.formats.limits import MAX_NAME, MAX_TENSORS, MAX_TEXT_BYTES
from convert.formats.names import shown
from convert.formats.stored_tensor import FileStamp, StoredTensor, check_layout
from jax_interp.errors import CheckpointError

_DTYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "U32": np.uint32,
    "I32": np.int32, "U64": np.uint64, "I64": np.int64, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F32": np.float32, "F64": np.float64, "C64": np.complex64, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}  # fmt: skip


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a `.safetensors` file by name; only its header is read.

    Raises:
        CheckpointError: the file is cut short, or header and values do not fit each other.
    """
    stamp = FileStamp.of(path)
    start, header = _read_header(stamp)
    size = stamp.size - start
    spans: list[tuple[int, int, str]] = []
    tensors: dict[str, StoredTensor] = {}
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        source = f"{path.name}: {shown(key)}"
        if len(key) > MAX_NAME:
            raise CheckpointError(f"{source}: the name has more than {MAX_NAME} letters, the most that are read")
        dtype, shape, begin, end = _parse_entry(entry, source)
        if end > size:
            raise CheckpointError(f"{source}: ends {end - size} bytes past the end of the file; download it again")
        tensors[key] = StoredTensor(shape, dtype, source, stamp, start + begin)
        check_layout(tensors[key], start, size)
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise CheckpointError(
                f"{source}: {end - begin} bytes for {dtype} {reprlib.repr(shape)}; the file is damaged"
            )
        spans.append((begin, end, source))
    _check_gapless(spans, size, path)
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts that the header of a `.safetensors` file holds beside its tensors.

    Raises:
        CheckpointError: the header is damaged.
    """
    metadata = _read_header(FileStamp.of(path))[1].get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise CheckpointError(f"{path}: its metadata are not texts; the file is damaged")
    return metadata


def _read_header(stamp: FileStamp) -> tuple[int, dict[str, Any]]:
    """Return the byte where the values start, and the header."""
    with stamp.open() as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else None
        if length is None or not 2 <= length <= stamp.size - 8:
            raise CheckpointError(
                f"{stamp.path}: not a safetensors file, or cut short inside its header (no header length that fits"
                f" {stamp.size} bytes); download it again"
            )
        if length > MAX_TEXT_BYTES:
            raise CheckpointError(
                f"{stamp.path}: its header has {length:,} bytes, more than the {MAX_TEXT_BYTES:,} that are read"
            )
        text = file.read(length)
    try:
        header = parse_foreign_json(text)
    except ValueError as error:
        raise CheckpointError(
            f"{stamp.path}: its header is not valid JSON, or not a JSON object ({error}); download it again"
        ) from error
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"{stamp.path}: has more than {MAX_TENSORS:,} tensors, the most that are read")
    return 8 + length, header


def _parse_entry(entry: Any, source: str) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """Return dtype, shape, first byte and last byte plus one; both bytes are counted from where the values start."""
    match entry:
        case {"dtype": str(name), "shape": [*shape], "data_offsets": [begin, end]}:
            numbers = [*shape, begin, end]
            if name not in _DTYPES:
                raise CheckpointError(
                    f"{source}: dtype {shown(name)} is not supported (supported: {', '.join(_DTYPES)})"
                )
            if all(type(number) is int and 0 <= number < 1 << 63 for number in numbers) and begin <= end:
                return np.dtype(_DTYPES[name]), tuple(shape), begin, end
    raise CheckpointError(f"{source}: its header entry has no valid dtype, shape and data_offsets; download it again")


def _check_gapless(spans: list[tuple[int, int, str]], size: int, path: Path) -> None:
    """Raise `CheckpointError` unless the values fill the file exactly, each byte belonging to one tensor."""
    reached = 0
    for begin, end, source in sorted(spans):
        if begin != reached:
            raise CheckpointError(f"{source}: starts at byte {begin}, expected {reached}; the file is damaged")
        reached = end
    if reached != size:
        raise CheckpointError(
            f"{path}: holds {size} bytes of values, its header describes {reached}; download it again"
        )
