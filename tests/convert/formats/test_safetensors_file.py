import json
import struct

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from convert.formats.safetensors_file import open_safetensors
from jax_interp.errors import CheckpointError
from tests.convert.archives import assert_same
from tests.golden import CHECKPOINTS

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64, torch.float8_e4m3fn,
    torch.float8_e5m2,
]  # fmt: skip


def write(path, header, values=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + values)
    return path


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_every_dtype_and_shape(tmp_path):
    tensors = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    tensors |= {"scalar": torch.tensor(1.5), "empty": torch.ones(0, 3)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert_same(open_safetensors(tmp_path / "x.safetensors"), tensors)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_golden_files_equal_the_safetensors_package(name):
    path = CHECKPOINTS / "Cosmos-Tokenize1-CV8x8x8-720p" / f"{name}.safetensors"
    assert_same(open_safetensors(path), load_file(path))


def test_a_changed_byte_is_seen(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2)}, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(AssertionError, match="a"):
        assert_same(open_safetensors(path), {"a": torch.ones(2)})


@pytest.mark.parametrize(
    ("header", "values", "message"),
    [
        ({"a": entry(0, 8)}, bytes(7), "a: ends 1 bytes past the end of the file; download it again"),
        ({"a": entry(0, 8)}, bytes(9), "holds 9 bytes of values, its header describes 8"),
        ({"a": entry(1, 9)}, bytes(9), "a: starts at byte 1, expected 0"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), "b: starts at byte 4, expected 8"),
        ({"a": entry(0, 4)}, bytes(4), "reaches past the end"),
        ({"a": entry(0, 12)}, bytes(12), "a: 12 bytes for float32"),
        ({"a": entry(8, 0)}, bytes(8), "a: its header entry has no valid"),
        ({"a": entry(-8, 0)}, bytes(8), "a: its header entry has no valid"),
        ({"a": entry(0, 8, (-2,))}, bytes(8), "a: its header entry has no valid"),
        ({"a": entry(0, 8, (2.0,))}, bytes(8), "a: its header entry has no valid"),
        ({"a": entry(0, 4, (True,))}, bytes(4), "a: its header entry has no valid"),
        ({"a": entry(0, 8, (1 << 62, 1 << 62))}, bytes(8), "too large"),
        ({"a": entry(0, 8, (1,) * 65)}, bytes(8), "impossible shape"),
        ({"a": entry(0, 8, dtype="F4")}, bytes(8), r"a: dtype F4 is not supported \(supported: BOOL"),
        ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8), "a: its header entry has no valid"),
        ({"a": "F32"}, b"", "a: its header entry has no valid"),
        ([], b"", "not a JSON object"),
        (b'{"a": 1, "a": 2}', b"", "a key appears twice"),
        (b'{"a": ', b"", "not valid JSON"),
        (b"\xff\xff\xff", b"", "not valid JSON"),
        (b'{"a":' * 100_000, b"", "not valid JSON"),
    ],
)
def test_headers_that_do_not_fit_are_refused(tmp_path, header, values, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        open_safetensors(write(tmp_path / "x.safetensors", header, values))
    assert "x.safetensors" in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 100, 99_999_999])
def test_header_length_must_fit_the_file(tmp_path, length):
    with pytest.raises(CheckpointError, match=r"cut short inside its header|no header length"):
        open_safetensors(write(tmp_path / "x.safetensors", {}, length=length))


def test_header_length_is_capped(tmp_path):
    with pytest.raises(CheckpointError, match="no header length"):
        open_safetensors(write(tmp_path / "x.safetensors", {}, length=1 << 62))


def test_truncation_anywhere_is_noticed(tmp_path):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_file({"a": torch.ones(3, 2), "b": torch.ones(5, dtype=torch.bfloat16)}, whole)
    data = whole.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
            open_safetensors(path)


def test_order_is_that_of_the_header(tmp_path):
    path = write(tmp_path / "x.safetensors", {"b": entry(8, 16), "a": entry(0, 8)}, np.arange(4, dtype="<f4").tobytes())
    tensors = open_safetensors(path)
    assert list(tensors) == ["b", "a"]
    np.testing.assert_array_equal(tensors["b"].read(), [2, 3])
