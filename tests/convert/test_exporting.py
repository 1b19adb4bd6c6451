import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from convert.conversion import ConversionRequest, convert_checkpoints
from convert.exporting import export_checkpoints
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.runtime.checkpoint.finding import find_component
from tests import golden
from tests.convert.checkpoints import DIT, T5, TOKENIZER, dit_tensors, everything_below


def arrays_and_config(folder):
    """The bytes of every array, and the configuration; not Orbax's time stamps."""
    found = {name: content for name, content in everything_below(folder).items() if "/c/" in name or "zarr" in name}
    return found | {name: (folder / name / "config.json").read_bytes() for name in (DIT, TOKENIZER, T5)}


@pytest.mark.slow
def test_convert_undoes_export_bit_by_bit(converted, tmp_path):
    paths = export_checkpoints(converted, tmp_path / "exported")
    assert [path.relative_to(tmp_path / "exported").as_posix() for path in paths] == [DIT, TOKENIZER, T5]
    again = ConversionRequest(checkpoint_dir=tmp_path / "exported", output_dir=tmp_path / "again", md5="skip")
    convert_checkpoints(again)
    assert arrays_and_config(tmp_path / "again") == arrays_and_config(converted)
    files = (tmp_path / "again" / T5 / "tokenizer").iterdir()
    assert {path.name: path.read_bytes() for path in files} == {
        path.name: path.read_bytes() for path in (converted / T5 / "tokenizer").iterdir()
    }


def test_one_changed_bit_is_seen(converted, tmp_path):
    changed = shutil.copytree(converted, tmp_path / "changed")
    chunk = changed / DIT / "params" / "time_norm.scale" / "c" / "0"
    content = bytearray(chunk.read_bytes())
    content[0] ^= 1
    chunk.write_bytes(content)
    assert arrays_and_config(changed) != arrays_and_config(converted)


@pytest.mark.slow
def test_the_files_are_upstreams(converted, tmp_path):
    export_checkpoints(converted, tmp_path)
    assert {path.name for path in (tmp_path / T5).iterdir()} == {
        "model.safetensors",
        "spiece.model",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    ours = load_file(tmp_path / DIT / "model.safetensors")
    theirs = torch.load(golden.CHECKPOINTS / DIT / "model.pt", weights_only=True)
    assert theirs.keys() - ours.keys() == {
        key for key in theirs if "_extra_state" in key or key.startswith("logvar") or key == "net.pos_embedder.seq"
    }
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    for name in ("encoder", "decoder"):
        ours = load_file(tmp_path / TOKENIZER / f"{name}.safetensors")
        theirs = load_file(golden.CHECKPOINTS / TOKENIZER / f"{name}.safetensors")
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
        assert all("patch_size_buffer" in key or "_arange" in key for key in theirs.keys() - ours.keys())
    statistics = load_file(tmp_path / TOKENIZER / "mean_std.safetensors")
    mean, deviation = torch.load(golden.CHECKPOINTS / TOKENIZER / "mean_std.pt", weights_only=True)
    assert torch.equal(statistics["0"], mean)
    assert torch.equal(statistics["1"], deviation)


def test_networks_are_chosen_by_kind(converted, tmp_path):
    (path,) = export_checkpoints(converted, tmp_path / "exported", ("diffusion_transformer",))
    assert path == tmp_path / "exported" / DIT
    with pytest.raises(UsageError, match="unknown vae"):
        export_checkpoints(converted, tmp_path / "exported", ("vae",))
    shutil.copytree(converted / DIT, tmp_path / "converted" / DIT)
    with pytest.raises(CheckpointError, match="has no converted tokenizer"):
        export_checkpoints(tmp_path / "converted", tmp_path / "exported", ("tokenizer",))
    with pytest.raises(CheckpointError, match="has no converted network"):
        export_checkpoints(golden.CHECKPOINTS, tmp_path / "exported")


def test_an_export_is_replaced_only_when_told(converted, tmp_path):
    chosen = ("diffusion_transformer",)
    export_checkpoints(converted, tmp_path, chosen)
    before = everything_below(tmp_path)
    with pytest.raises(CheckpointError, match="there already; pass --overwrite"):
        export_checkpoints(converted, tmp_path, chosen)
    export_checkpoints(converted, tmp_path, chosen, overwrite=True)
    assert everything_below(tmp_path) == before
    (tmp_path / DIT / "notes").write_text("mine")
    with pytest.raises(CheckpointError, match="did not write there"):
        export_checkpoints(converted, tmp_path, chosen, overwrite=True)
    with pytest.raises(CheckpointError, match="did not write there"):
        export_checkpoints(converted, converted, chosen, overwrite=True)


def test_a_network_that_is_not_whole_is_not_exported(converted, tmp_path):
    half = shutil.copytree(converted, tmp_path / "half")
    (half / DIT / "params" / "time_norm.scale" / "c" / "0").unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        export_checkpoints(half, tmp_path / "exported", ("diffusion_transformer",))
    assert not (tmp_path / "exported").exists()


def test_a_network_of_another_version_is_not_exported(converted, tmp_path):
    other = shutil.copytree(converted, tmp_path / "other")
    path = other / DIT / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["params"]["gone/kernel"] = manifest["params"].pop("time_norm/scale")
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"does not fit this version's network .gone/kernel, time_norm/scale"):
        export_checkpoints(other, tmp_path / "exported", ("diffusion_transformer",))
    assert not (tmp_path / "exported").exists()


def test_a_failure_while_writing_leaves_nothing(converted, tmp_path, monkeypatch):
    def full(path, entries):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convert.exporting.write_safetensors", full)
    with pytest.raises(CheckpointError, match="the disk is full"):
        export_checkpoints(converted, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.slow
def test_progress_counts_every_byte(converted, tmp_path):
    jobs = []

    @contextmanager
    def progress(label, total):
        done = []
        jobs.append((label, done))
        yield done.append

    export_checkpoints(converted, tmp_path / "exported", ("diffusion_transformer",), progress=progress)
    ((label, done),) = jobs
    used = [key for key in dit_tensors() if key.startswith("net.") and "_extra" not in key and "seq" not in key]
    assert label == f"exporting {DIT}"
    assert sum(done) == sum(dit_tensors()[key].nbytes for key in used)
    assert np.all(np.array(done) > 0)
    assert find_component(converted, "diffusion_transformer").path.name == DIT
