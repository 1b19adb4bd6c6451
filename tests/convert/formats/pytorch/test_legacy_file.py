"""Files as PyTorch wrote them before version 1.6, made by today's PyTorch on request."""

import collections
import fractions
import pickle
import struct

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch._utils

from convert.formats.archive import open_archive
from convert.formats.pytorch.legacy_file import MAGIC_NUMBER, open_legacy_file
from jax_interp.errors import CheckpointError


def save(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def content():
    shared = torch.arange(24, dtype=torch.float32)
    return {
        "whole": shared.reshape(4, 6),
        "part": shared[6:12],
        "turned": shared.reshape(4, 6).T,
        "bytes": torch.tensor([1, 2, 255], dtype=torch.uint8),
        "half": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).half(),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "deep": {"list": [torch.ones(2), torch.zeros(1)]},
        "epoch": 3,
    }


def test_every_tensor_is_read(tmp_path):
    found = open_archive(save(tmp_path / "old.pth", content()))
    expected = content()
    flat = {key: value for key, value in expected.items() if isinstance(value, torch.Tensor)}
    flat |= {"deep.list.0": expected["deep"]["list"][0], "deep.list.1": expected["deep"]["list"][1]}
    assert found.keys() == flat.keys()
    for key, tensor in flat.items():
        array = found[key].read()
        assert array.dtype == tensor.numpy().dtype
        assert np.array_equal(array, tensor.numpy())


def test_a_state_dict_of_a_module_and_bfloat16(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)).bfloat16()
    found = open_legacy_file(save(tmp_path / "old.pth", module.state_dict()))
    for key, value in module.state_dict().items():
        assert np.array_equal(found[key].read().astype(np.float32), value.float().numpy())


def test_a_forbidden_global_is_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"fractions\.Fraction.*refused"):
        open_archive(save(tmp_path / "old.pth", {"x": torch.ones(1), "y": fractions.Fraction(1, 2)}))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_is_refused(tmp_path, share):
    path = save(tmp_path / "old.pth", {"weight": torch.randn(400)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match="download it again"):
        open_archive(path)


def handmade(path, *, version=1001, little_endian=True, keys=("0",), count=2):
    """A file that PyTorch would not write: of a tensor "weight" of two values."""

    class Saver(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, "0", "cpu", 2, None) if isinstance(obj, Mark) else None

    with path.open("wb") as file:
        for value in (MAGIC_NUMBER, version, {"little_endian": little_endian}):
            pickle.dump(value, file, protocol=2)
        Saver(file, protocol=2).dump({"weight": View()})
        pickle.dump(list(keys), file, protocol=2)
        file.write(struct.pack("<q", count) + np.array([1, 2], np.float32).tobytes())
    return path


class Mark:
    """Stands for a storage."""


class View:
    """Is pickled as PyTorch pickles a tensor."""

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (Mark(), 0, (2,), (1,), False, collections.OrderedDict())


def test_a_handmade_file_is_read(tmp_path):
    assert open_archive(handmade(tmp_path / "a.pth"))["weight"].read().tolist() == [1, 2]


def bottomless():
    """A list that takes a few hundred bytes as a pickle and 2^60 letters as text."""
    value = []
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1002}, "version 1002, expected 1001"),
        ({"version": bottomless()}, "version unknown, expected 1001"),
        ({"keys": (bottomless(),)}, "damaged at its storages"),
        ({"keys": (0,)}, "damaged at its storages"),
        ({"little_endian": False}, "big-endian"),
        ({"keys": ()}, "damaged at its storages"),
        ({"keys": ("0", "0")}, "damaged at its storages"),
        ({"keys": ("1",)}, "damaged at its storages"),
        ({"count": 1}, "should have 2 values"),
        ({"count": 3}, "damaged at its storages"),
        ({"count": 2**62}, "damaged at its storages"),
    ],
)
def test_what_pytorch_would_not_write_is_refused(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        open_archive(handmade(tmp_path / "a.pth", **change))
