"""Write a `.safetensors` file one tensor at a time (https://github.com/huggingface/safetensors, "Format")."""

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

_NAMES = {
    np.dtype(kind): name
    for name, kind in {
        "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
        "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64,
    }.items()
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A tensor to be written; `make` returns its values and is called only when its place in the file is reached."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """The number of bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(path: Path, entries: Sequence[Entry], metadata: Mapping[str, str] | None = None) -> None:
    """Write `entries` in their order; no more than one of them is in memory at a time.

    The header holds the texts of `metadata` beside the tensors.

    Raises:
        KeyError: the format does not have a dtype.
        ValueError: the array that an entry makes does not have its dtype and shape.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for entry in entries:
        start, end = end, end + entry.nbytes
        header[entry.key] = {"dtype": _NAMES[entry.dtype], "shape": entry.shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in entries:
            values = np.ascontiguousarray(entry.make())
            if (values.dtype, values.size) != (entry.dtype, math.prod(entry.shape)):
                raise ValueError(f"{entry.key}: {values.dtype} {values.shape}, expected {entry.dtype} {entry.shape}")
            file.write(values.reshape(-1).view(np.uint8).data)
