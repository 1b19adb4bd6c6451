import io
import json
import shutil
import tarfile

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from convert.formats.archive import StoredTensor, open_archive, select_state_dict
from jax_interp.errors import CheckpointError
from tests.convert.archives import assert_same
from tests.golden import CHECKPOINTS

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}


@pytest.fixture
def archive(tmp_path):
    torch.save(TENSORS, tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".jit", ".ts", ".safetensors"])
def test_content_decides_whatever_the_suffix(tmp_path, archive, suffix):
    save_file(TENSORS, tmp_path / f"s{suffix}")
    assert_same(open_archive(tmp_path / f"s{suffix}"), TENSORS)
    shutil.copy(archive, tmp_path / f"p{suffix}")
    assert_same(open_archive(tmp_path / f"p{suffix}"), TENSORS)


def test_every_golden_checkpoint_opens():
    paths = [path for path in CHECKPOINTS.rglob("*") if path.suffix in (".pt", ".bin", ".safetensors")]
    assert {path.name: len(open_archive(path)) for path in paths} == {
        "model.pt": 93,
        "mean_std.pt": 2,
        "image_mean_std.pt": 2,
        "encoder.safetensors": 141,
        "decoder.safetensors": 174,
        "pytorch_model.bin": 28,
    }


def test_a_tensor_names_its_file_and_key(archive):
    assert open_archive(archive)["a.weight"].source == "model.pt: a.weight"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a git-lfs pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "a web page.*download it again"),
        (b"\n <html>", "a web page"),
        (b'<?xml version="1.0"?><Error/>', "a web page"),
        (b'{"error": "not found"}', "a JSON text.*download it again"),
        (b"Entry not found", "neither a file of torch.save nor safetensors.*download it again"),
        (b"\x80\x02}q\x00.", "a bare pickle"),
    ],
)
def test_what_is_no_weights_is_named(tmp_path, content, message):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"model\.pt: {message}"):
        open_archive(path)


def test_missing_file_folder_and_unknown_suffix(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pt: no such file"):
        open_archive(tmp_path / "gone.pt")
    with pytest.raises(CheckpointError, match="a folder, expected a checkpoint file"):
        open_archive(tmp_path)
    (tmp_path / "model.h5").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"unknown kind of checkpoint, expected one of \.pt"):
        open_archive(tmp_path / "model.h5")


def test_files_from_before_version_1_6_are_read_and_older_ones_refused(tmp_path):
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(open_archive(tmp_path / "old.pth"), TENSORS)
    with tarfile.open(tmp_path / "older.pt", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    with pytest.raises(CheckpointError, match=r"tar format from before version 0\.4.*torch\.save\(torch\.load"):
        open_archive(tmp_path / "older.pt")


def test_cut_archives_are_refused(archive):
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"model\.pt.*cut short: download it again"):
        open_archive(archive)


def save_sharded(folder, weight_map=None, name="model.safetensors.index.json"):
    save_file({"a": torch.ones(1), "both": torch.ones(2)}, folder / "1.safetensors")
    torch.save({"b": torch.ones(3), "both": torch.ones(4)}, folder / "2.bin")
    weight_map = weight_map or {"a": "1.safetensors", "b": "2.bin", "both": "2.bin"}
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return folder / name


def test_index_joins_its_files(tmp_path):
    expected = {"a": torch.ones(1), "b": torch.ones(3), "both": torch.ones(4)}
    assert_same(open_archive(save_sharded(tmp_path)), expected)


def test_index_in_a_cache_of_links(tmp_path):
    """The hub's cache keeps links to files of other names; the names in the index are those of the links."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for file in save_sharded(tmp_path / "blobs").parent.iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    assert sorted(open_archive(tmp_path / "snapshot" / "model.safetensors.index.json")) == ["a", "b", "both"]


@pytest.mark.parametrize("name", ["../1.safetensors", "/etc/passwd", "x/1.safetensors", "..", "", "a\\1.safetensors"])
def test_index_may_not_leave_its_folder(tmp_path, name):
    with pytest.raises(CheckpointError, match="must lie in the same folder"):
        open_archive(save_sharded(tmp_path, {"a": name}))


def test_index_may_not_name_an_index(tmp_path):
    with pytest.raises(CheckpointError, match="must lie in the same folder"):
        open_archive(save_sharded(tmp_path, {"a": "model.safetensors.index.json"}))


def test_index_that_does_not_fit_its_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"not found: c in 1\.safetensors, d in 2\.bin"):
        open_archive(save_sharded(tmp_path, {"c": "1.safetensors", "d": "2.bin"}))
    with pytest.raises(CheckpointError, match="both lies in two files"):
        open_archive(save_sharded(tmp_path, {"a": "1.safetensors", "b": "2.bin"}))
    with pytest.raises(CheckpointError, match=r"3\.bin: no such file"):
        open_archive(save_sharded(tmp_path, {"a": "3.bin"}))


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": []}', "{", "[" * 100_000])
def test_index_without_a_weight_map(tmp_path, text):
    (tmp_path / "x.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="no weight_map"):
        open_archive(tmp_path / "x.index.json")


def opened(tmp_path, value) -> dict[str, StoredTensor]:
    torch.save(value, tmp_path / "model.pt")
    return open_archive(tmp_path / "model.pt")


def test_post_trained_checkpoints(tmp_path):
    one, two = torch.ones(1), torch.ones(2)
    value = {"model": {"net.a.weight": one}, "ema": {"net-a-weight": two}, "optimizer": {"state": {0: one}}, "step": 3}
    tensors = opened(tmp_path, value)
    assert_same(select_state_dict(tensors), {"net.a.weight": one})
    assert_same(select_state_dict(tensors, "ema"), {"net.a.weight": two})


def test_one_level_only(tmp_path):
    tensors = opened(tmp_path, {"model": {"net.a": torch.ones(1)}})
    assert_same(select_state_dict(tensors, "model"), {"net.a": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"model\.pt: holds no ema weights, only model"):
        select_state_dict(tensors, "ema")
    tensors = opened(tmp_path, {"ema": {"net-a": torch.ones(1)}})
    assert_same(select_state_dict(tensors, "ema"), {"net.a": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"model\.pt: holds no model weights, only ema"):
        select_state_dict(tensors)


@pytest.mark.parametrize(
    "value", [{"net.a-b": torch.ones(1)}, {"model.layers": torch.ones(1), "lm_head": torch.ones(2)}]
)
@pytest.mark.parametrize("which", ["model", "ema"])
def test_plain_state_dicts_pass(tmp_path, value, which):
    assert_same(select_state_dict(opened(tmp_path, value), which), value)
