import io
import os
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch._utils

from convert.formats.limits import MAX_VALUES
from convert.formats.pytorch.torch_file import open_torch_archive
from jax_interp.errors import CheckpointError
from tests.convert.archives import (
    RECORD,
    Call,
    FakeStorage,
    FakeTensor,
    assert_same,
    pickled,
    write_archive,
    write_sparse,
)
from tests.golden import CHECKPOINTS

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64, torch.complex128,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
]  # fmt: skip


def saved(tmp_path, value, **options):
    torch.save(value, tmp_path / "model.pt", **options)
    return open_torch_archive(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "name",
    [
        "Cosmos-Predict1-7B-WorldInterpolator/model.pt",
        "google-t5/t5-11b/pytorch_model.bin",
    ],
)
def test_golden_state_dicts_equal_torch(name):
    assert_same(open_torch_archive(CHECKPOINTS / name), torch.load(CHECKPOINTS / name))


@pytest.mark.parametrize("name", ["mean_std.pt", "image_mean_std.pt"])
def test_golden_tuples_equal_torch(name):
    path = CHECKPOINTS / "Cosmos-Tokenize1-CV8x8x8-720p" / name
    mean, std = torch.load(path)
    assert_same(open_torch_archive(path), {"0": mean, "1": std})


@pytest.mark.parametrize("protocol", [2, 4])
def test_every_dtype(tmp_path, protocol):
    tensors = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    assert_same(saved(tmp_path, tensors, pickle_protocol=protocol), tensors)


def test_views_of_shared_storages(tmp_path):
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    views = {
        "whole": base,
        "transposed": base.permute(2, 0, 1),
        "slice": base[1:, ::2, 3:],
        "row": base[2, 1],
        "scalar": base[1, 2, 3],
        "expanded": base[:1].expand(7, 4, 5),
        "empty": base[:, 4:],
        "one": base[:, 1:2, :].transpose(0, 1),
    }
    tensors = saved(tmp_path, views)
    assert_same(tensors, views)
    assert (tmp_path / "model.pt").stat().st_size < 10 * base.nbytes + 4096, "torch stores the storage once"


def test_random_views(tmp_path, rng):
    views = {}
    for i in range(100):
        view = torch.arange(120).reshape(2, 3, 4, 5).permute(*rng.permutation(4).tolist())
        for axis in range(4):
            start = int(rng.integers(view.shape[axis]))
            view = view[(slice(None),) * axis + (slice(start, None, int(rng.integers(1, 4))),)]
        views[f"v{i}"] = view
    assert_same(saved(tmp_path, views), views)


def test_module_state_dict_with_metadata_and_parameters(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    assert_same(saved(tmp_path, module.state_dict()), module.state_dict())
    marked = torch.nn.Parameter(torch.ones(2))
    setattr(marked, "partition_dim", 1)  # noqa: B010
    parameters: dict[str, torch.Tensor] = {"plain": torch.nn.Parameter(torch.ones(3)), "marked": marked}
    assert_same(saved(tmp_path, parameters), parameters)


def test_containers_nest(tmp_path):
    x = torch.arange(3)
    value = {"a": [x, {"b": (x + 1,)}], 7: x + 2, "step": 3, "name": "x", "none": None, "dtype": torch.float32,
             "size": torch.Size([2]), "device": torch.device("cpu")}  # fmt: skip
    assert_same(saved(tmp_path, value), {"a.0": x, "a.1.b.0": x + 1, "7": x + 2})
    assert_same(saved(tmp_path, x), {"0": x})


def test_extra_state_may_be_bytes_io_or_a_tensor(tmp_path):
    x = torch.ones(2)
    empty = torch.empty(0, dtype=torch.uint8)
    value = OrderedDict(w=x)
    value |= {"a._extra_state": io.BytesIO(b"abc"), "b._extra_state": empty, "c._extra_state": io.BytesIO()}
    value |= {"d._extra_state": None, "e-_extra_state": {"recipe": io.BytesIO(b"1"), "scale": x}}
    expected = {"w": x, "b._extra_state": empty, "e-_extra_state.scale": x}
    assert_same(saved(tmp_path, value), expected)
    assert_same(saved(tmp_path, {"model": value}), {f"model.{key}": tensor for key, tensor in expected.items()})


def test_bytes_io_elsewhere_is_refused_by_key(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.pt: net\.weight is neither .* io\.BytesIO"):
        saved(tmp_path, {"net": {"weight": io.BytesIO(b"abc")}})


@pytest.mark.parametrize("where", ["w", "a._extra_state"])
def test_attack_is_refused_and_not_run(tmp_path, where):
    marker = tmp_path / "ran"
    with pytest.raises(CheckpointError, match=r"model\.pt: its pickle names 'posix\.system'"):
        saved(tmp_path, {where: Call(os.system, (f"touch {marker}",))})
    assert not marker.exists()
    torch.load(tmp_path / "model.pt", weights_only=False)  # the attack itself works
    assert marker.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.float32(1), r"numpy\..*scalar"),
        (np.arange(2), r"numpy\..*_reconstruct"),
        ({1, 2}, "set"),
        (torch.nn.Linear(1, 1), "Linear"),
        (torch.ones(2).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.ones(2, device="meta"), "_rebuild_meta_tensor_no_storage"),
    ],
)
def test_other_values_are_refused_by_name(tmp_path, value, name):
    with pytest.raises(CheckpointError, match=f"its pickle names '{name}|its pickle names '.*{name}"):
        saved(tmp_path, {"w": torch.ones(1), "x": value})


def test_bare_storages_and_functions_are_refused_by_key(tmp_path):
    with pytest.raises(CheckpointError, match="x is neither a tensor, a number nor a container but Storage"):
        saved(tmp_path, {"x": torch.ones(2).untyped_storage()})
    with pytest.raises(CheckpointError, match=r"x is neither .* but Global"):
        saved(tmp_path, {"x": torch._utils._rebuild_tensor_v2})


@pytest.mark.parametrize("order", ["big", "neither"])
def test_other_byte_orders_are_refused(tmp_path, order):
    value = {"w": FakeTensor((12,), (1,))}
    assert_same(
        open_torch_archive(write_archive(tmp_path / "model.pt", value, byteorder=b"little")),
        {"w": torch.tensor(RECORD)},
    )
    with pytest.raises(CheckpointError, match="big-endian"):
        open_torch_archive(write_archive(tmp_path / "model.pt", value, byteorder=order.encode()))


@pytest.mark.parametrize("root", ["archive/", "other name/", "a/b/", ""])
def test_any_root_folder(tmp_path, root):
    records = {"extra/data.pkl": b"not looked at"}
    path = write_archive(tmp_path / "model.pt", {"w": FakeTensor((12,), (1,))}, root, **records)
    np.testing.assert_array_equal(open_torch_archive(path)["w"].read(), RECORD)


@pytest.mark.parametrize(
    "tensor",
    [
        FakeTensor((13,), (1,)),
        FakeTensor((12,), (1,), 1),
        FakeTensor((12,), (1,), -1),
        FakeTensor((2,), (12,)),
        FakeTensor((2,), (-1,), 3),
        FakeTensor((3, 4), (4, 2)),
        FakeTensor((1 << 63,), (0,)),
        FakeTensor((1 << 40,), (0,)),
        FakeTensor((2,), (1 << 62,)),
        FakeTensor((-2,), (1,)),
        FakeTensor((1,), (1,), 12),
        FakeTensor((12,), (1,), storage=FakeStorage(11)),
        FakeTensor((12,), (1,), storage=FakeStorage(13)),
        FakeTensor((12,), (1,), storage=FakeStorage(-1)),
        FakeTensor((12,), (1,), storage=FakeStorage(1 << 80)),
        FakeTensor((6,), (1,), storage=FakeStorage(12, kind=torch.DoubleStorage)),
    ],
)
def test_out_of_bounds_is_refused_by_key(tmp_path, tensor):
    path = write_archive(tmp_path / "model.pt", {"net.w": tensor})
    with pytest.raises(CheckpointError, match=r"model\.pt: net\.w: "):
        open_torch_archive(path)


@pytest.mark.parametrize("key", ["1", "../version", "/etc/passwd", ""])
def test_missing_storage_is_refused(tmp_path, key):
    path = write_archive(tmp_path / "model.pt", {"w": FakeTensor((1,), (1,), storage=FakeStorage(1, key))})
    with pytest.raises(CheckpointError, match=rf"has no record data/{key}"):
        open_torch_archive(path)


def test_stride_of_an_axis_of_length_one_means_nothing(tmp_path):
    path = write_archive(tmp_path / "model.pt", {"w": FakeTensor((1, 4, 1, 3), (1 << 70, 1, -5, 4))})
    np.testing.assert_array_equal(open_torch_archive(path)["w"].read()[0, :, 0], RECORD.reshape(3, 4).T)


def test_cycles_and_explosions_end(tmp_path):
    cycle: dict = {"w": FakeTensor((12,), (1,))}
    cycle["self"] = [cycle]
    with pytest.raises(CheckpointError, match=r"self\.0 contains itself"):
        open_torch_archive(write_archive(tmp_path / "model.pt", cycle))
    with pytest.raises(CheckpointError, match="nested deeper than"):
        open_torch_archive(write_archive(tmp_path / "model.pt", b"\x80\x02]" + b"q\x00]h\x00a" * 1000 + b"."))
    with pytest.raises(CheckpointError, match=f"more than {MAX_VALUES} values"):
        open_torch_archive(write_archive(tmp_path / "model.pt", b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"."))


def test_equal_names_are_refused(tmp_path):
    value = {"a.b": FakeTensor((1,), (1,)), "a": {"b": FakeTensor((2,), (1,))}}
    with pytest.raises(CheckpointError, match=r"two tensors have the name a\.b"):
        open_torch_archive(write_archive(tmp_path / "model.pt", value))


@pytest.mark.parametrize("value", [{}, {"step": 3}])
def test_no_tensors_is_an_error(tmp_path, value):
    with pytest.raises(CheckpointError, match="holds no tensors"):
        saved(tmp_path, value)


def test_truncated_archives_are_refused(tmp_path):
    torch.save({"a": torch.ones(100), "b": torch.ones(3)}, tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    for length in range(4, len(data), 7):
        (tmp_path / "cut.pt").write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"cut\.pt.*download it again"):
            open_torch_archive(tmp_path / "cut.pt")


def test_archives_with_changed_bytes_never_do_anything_else_than_raise(tmp_path, rng):
    torch.save({"a": torch.ones(5), "b": torch.ones(3).t()}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(len(data) - 400, len(data))] = rng.integers(256)
        (tmp_path / "changed.pt").write_bytes(data)
        try:
            for tensor in open_torch_archive(tmp_path / "changed.pt").values():
                tensor.read()
            outcomes.add("read")
        except CheckpointError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("name", ["data.pkl", "data/0"])
def test_compressed_records_are_refused(tmp_path, name):
    write_archive(tmp_path / "plain.pt", {"w": FakeTensor((12,), (1,))})
    with zipfile.ZipFile(tmp_path / "plain.pt") as old, zipfile.ZipFile(tmp_path / "model.pt", "w") as new:
        for entry in old.namelist():
            kind = zipfile.ZIP_DEFLATED if entry.endswith(name) else zipfile.ZIP_STORED
            new.writestr(entry, old.read(entry), kind)
    with pytest.raises(CheckpointError, match=rf"record archive/{name} is compressed"):
        open_torch_archive(tmp_path / "model.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused(tmp_path):
    path = write_archive(tmp_path / "model.pt", {"w": FakeTensor((12,), (1,))})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", pickled({}))
    with pytest.raises(CheckpointError, match="two records of one name"):
        open_torch_archive(path)


def test_other_zip_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model.json", "{}")
    with pytest.raises(CheckpointError, match=r"not a PyTorch archive \(no data\.pkl"):
        open_torch_archive(tmp_path / "model.pt")


def test_records_past_four_gigabytes(tmp_path):
    """Zip64: a record of 5 GiB (a hole on the disk) and one behind it."""
    size = 5 << 30
    path = write_sparse(tmp_path / "model.pt", [size, 4], b"\1\2\3\4")
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.fail("the test needs a file system with sparse files")
    tensors = open_torch_archive(path)
    assert tensors["t0"].shape == (size,)
    np.testing.assert_array_equal(tensors["t1"].read(), [1, 2, 3, 4])


def test_memory_does_not_follow_the_file(tmp_path):
    """A process of its own reads a 512 MiB archive of 8 MiB tensors, one strided: at most a few of them in memory."""
    path = write_sparse(tmp_path / "model.pt", [8 << 20] * 64)
    program = (
        "import resource, sys; from dataclasses import replace; from pathlib import Path\n"
        "from convert.formats.archive import open_archive\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); tensors = open_archive(Path(sys.argv[1])); opened = peak()\n"
        "total = sum(tensor.read().nbytes for tensor in tensors.values()); read = peak()\n"
        "replace(tensors['t0'], shape=(4 << 20,), strides=(2,)).read()\n"
        "print(total, opened - before, read - before, peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    total, opened, read, strided = map(int, done.stdout.split())
    assert total == 512 << 20
    assert opened < 4 << 10, "KiB: opening reads headers only"
    assert read < 32 << 10
    assert strided < 48 << 10


def place_of(path, record):
    """First byte and length of a record, as Python's own zipfile finds it."""
    with zipfile.ZipFile(path) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith(record))
        with archive.open(info) as content:
            content.read(1)
        data = path.read_bytes()
        lengths = np.frombuffer(data, "<u2", 2, info.header_offset + 26)
    return info.header_offset + 30 + int(lengths.sum()), info.file_size


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


SHARED = torch.arange(24, dtype=torch.float32)
STORED = {
    "alone": torch.randn(5, 7),
    "front": SHARED[:12],
    "back": SHARED.view(4, 6)[2:],
    "turned": SHARED.view(4, 6).T,
    "small": torch.tensor(1, dtype=torch.uint8),
    "none": torch.empty(0),
}


def unreadable(path):
    """The tensors that say so when they are read."""
    found = set()
    for key, tensor in open_torch_archive(path).items():
        try:
            tensor.read()
        except CheckpointError as error:
            if f"model.pt: {key}: its bytes are not those that were saved (CRC-32 " in str(error):
                found.add(key)
    return found


@pytest.mark.parametrize(
    ("record", "keys"),
    [("data/0", {"alone"}), ("data/1", {"front", "back", "turned"}), ("data/2", {"small"})],
)
def test_a_flipped_bit_anywhere_in_a_storage_is_noticed_by_every_tensor_of_it(tmp_path, record, keys, rng):
    path = tmp_path / "model.pt"
    for _ in range(20):
        torch.save(STORED, path)
        start, size = place_of(path, record)
        flip(path, start + int(rng.integers(size)), int(rng.integers(8)))
        assert unreadable(path) == keys


def test_a_flipped_bit_anywhere_else_is_refused_or_does_no_harm(tmp_path):
    """Each byte of a small archive: what is read is right, or the file is refused."""
    path = tmp_path / "model.pt"
    torch.save({"w": torch.arange(4.0)}, path)
    whole, right, outcomes = path.read_bytes(), torch.arange(4.0).numpy().tobytes(), set()
    for place in range(4, len(whole)):
        path.write_bytes(whole)
        flip(path, place, place % 8)
        try:
            values = {key: tensor.read().tobytes() for key, tensor in open_torch_archive(path).items()}
        except CheckpointError:
            outcomes.add("refused")
            continue
        assert values == {"w": right}
        outcomes.add("read")
    assert outcomes == {"read", "refused"}


def test_archives_without_checksums_are_read(tmp_path):
    """PyTorch writes zeros instead if it is told not to compute them."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STORED, tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        assert {info.CRC for info in archive.infolist()} == {0}
    tensors = open_torch_archive(tmp_path / "model.pt")
    assert_same(tensors, STORED)
    assert all(tensor.record is None for tensor in tensors.values())


def test_checksums_of_large_storages_are_compared_in_pieces(tmp_path):
    large = torch.arange(3 << 20, dtype=torch.int32)
    torch.save({"w": large, "part": large[5:]}, tmp_path / "model.pt")
    assert_same(open_torch_archive(tmp_path / "model.pt"), {"w": large, "part": large[5:]})
    start, size = place_of(tmp_path / "model.pt", "data/0")
    flip(tmp_path / "model.pt", start + size - 1)
    assert unreadable(tmp_path / "model.pt") == {"w", "part"}


def test_a_storage_is_checked_once_for_all_its_views(tmp_path, monkeypatch):
    torch.save({f"v{i}": SHARED[i : i + 3] for i in range(10)}, tmp_path / "model.pt")
    tensors, reads = open_torch_archive(tmp_path / "model.pt"), []
    crc32 = zlib.crc32
    monkeypatch.setattr("zlib.crc32", lambda data, crc=0: reads.append(len(data)) or crc32(data, crc))
    for tensor in tensors.values():
        tensor.read()
    assert reads == [SHARED.nbytes]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt: not a file \(a pipe"):
        open_torch_archive(tmp_path / "model.pt")
