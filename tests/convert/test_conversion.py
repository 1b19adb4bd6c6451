import json
import logging
import math
import os
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from convert import conversion, storing
from convert.conversion import ConversionRequest, convert_checkpoints
from convert.formats.archive import open_archive
from convert.mapping.ops import transpose
from convert.networks.components import DIFFUSION_TRANSFORMER
from jax_interp.config import DiTConfig, T5Config, VideoTokenizerConfig
from jax_interp.errors import CheckpointError, UsageError
from jax_interp.nn.params import flatten
from jax_interp.runtime.checkpoint.finding import find_component
from jax_interp.runtime.checkpoint.loading import load_params
from jax_interp.runtime.checkpoint.param_files import open_array
from tests import golden
from tests.commands import jax_interp
from tests.convert.checkpoints import (
    DIT,
    T5,
    TOKENIZER,
    copy_golden,
    dit_tensors,
    everything_below,
    write_dit,
    write_tensors,
)

UP = "net.blocks.block{}.blocks.2.block.layer1.weight"


def convert(source, target, **options):
    return convert_checkpoints(ConversionRequest(checkpoint_dir=source, output_dir=target, **options))


def assert_nothing_written(target, allowed=()):
    left = {path.name for path in target.iterdir()} if target.exists() else set()
    assert left == set(allowed)


@pytest.fixture
def log(caplog, monkeypatch):
    """The package's log lines, also if an earlier test has run a command, which sends them to the terminal."""
    monkeypatch.setattr(logging.getLogger("jax_interp"), "propagate", True)
    caplog.set_level(logging.INFO, "jax_interp")
    return caplog


@pytest.fixture
def out(tmp_path):
    return tmp_path / "converted"


def test_the_golden_folder_converts_with_no_options(out):
    paths = convert(golden.CHECKPOINTS, out)
    assert [str(path.relative_to(out)) for path in paths] == [DIT, TOKENIZER, T5]
    found = {name: find_component(out, name) for name in ("diffusion_transformer", "tokenizer", "text_encoder")}
    assert found["diffusion_transformer"].config == DiTConfig(
        width=128,
        num_heads=4,
        head_width=32,
        num_blocks=3,
        mlp_width=512,
        text_width=64,
        adaln_rank=16,
        grid=(16, 16, 16),
    )
    assert found["tokenizer"].config == VideoTokenizerConfig(channels=8)
    assert found["text_encoder"].config == T5Config(
        vocab_size=364, width=64, num_layers=3, num_heads=4, head_width=16, mlp_width=128
    )
    assert {name: network.dtype for name, network in found.items()} == {
        "diffusion_transformer": "bfloat16",
        "tokenizer": "bfloat16",
        "text_encoder": "float32",
    }
    extras = sorted(path.name for path in (out / T5 / "tokenizer").iterdir())
    assert extras == ["spiece.model", "tokenizer.json", "tokenizer_config.json"]
    original = golden.CHECKPOINTS / T5 / "tokenizer.json"
    assert (out / T5 / "tokenizer" / "tokenizer.json").read_bytes() == original.read_bytes()
    assert {path.name for path in out.rglob(".*")} == set()


def test_every_value_arrives_at_its_place(out):
    convert(golden.CHECKPOINTS, out, components=("diffusion_transformer",))
    found = find_component(out, "diffusion_transformer")
    params = dict(flatten(load_params(found, DIFFUSION_TRANSFORMER.abstract(found.config))))
    tensors = dit_tensors()
    for leaf in DIFFUSION_TRANSFORMER.plan(found.config):
        parts = [leaf.op.forward(tensors[key]) for key in leaf.keys]
        expected = np.stack(parts) if leaf.stacked else parts[0]
        assert np.asarray(params[leaf.path]).tobytes() == expected.tobytes(), leaf.path
    kernel = open_array(found.path / "params", "blocks/mlp/up/kernel")[1].read().result()
    np.testing.assert_array_equal(kernel, tensors[UP.format(1)].T)


def test_the_manifest_tells_where_everything_is_from(out):
    convert(golden.CHECKPOINTS, out, components=("diffusion_transformer",))
    manifest = find_component(out, "diffusion_transformer").manifest
    (source,) = manifest["sources"]
    assert (source["name"], source["size"]) == ("model.pt", (golden.CHECKPOINTS / DIT / "model.pt").stat().st_size)
    assert len(source["sha256"]) == 64
    assert source["published_md5"] == "differs"
    assert manifest["params"]["blocks/mlp/up/kernel"] == {
        "shape": [3, 128, 512],
        "dtype": "bfloat16",
        "source": "net.blocks.block{layer}.blocks.2.block.layer1.weight",
        "op": transpose.name,
    }
    ignored = ("_extra_state", "logvar.", "net.pos_embedder.seq")
    used = [t for key, t in dit_tensors().items() if not any(part in key for part in ignored)]
    assert sum(math.prod(entry["shape"]) for entry in manifest["params"].values()) == sum(
        tensor.size for tensor in used
    )
    assert manifest["files"].keys() >= {"params/_METADATA", "params/time_norm.scale/zarr.json"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_may_be_stored_in_another_dtype(out, dtype):
    convert(golden.CHECKPOINTS, out, components=("text_encoder",), dtype=dtype)
    found = find_component(out, "text_encoder")
    assert found.dtype == dtype
    assert {entry["dtype"] for entry in found.manifest["params"].values()} == {dtype}
    array = open_array(found.path / "params", "embedding").read().result()
    assert array.dtype == (np.float32 if dtype == "float32" else ml_dtypes.bfloat16)


BAD_KEYS = [
    ({UP.format(1): None}, ["missing keys (1)", UP.format(1)]),
    ({"net.surprise": np.zeros(2, np.float32)}, ["no rule knows (1)", "net.surprise: float32 (2,)"]),
    ({UP.format(2): np.zeros((512, 127), ml_dtypes.bfloat16)}, ["wrong shape", "(512, 127), expected (512, 128)"]),
    ({UP.format(2): np.zeros((512, 128), np.float32)}, ["wrong shape or dtype", "same stack is bfloat16"]),
    (
        {UP.format(0).replace("layer1", "layer2"): None, "logvarx": np.zeros(1, np.float32)},
        ["missing keys (1)", "no rule knows (1)", "logvarx"],
    ),
    ({"net.x_embedder.proj.1.weight": None}, ["net.x_embedder.proj.1.weight is missing"]),
]


@pytest.mark.parametrize(
    ("changes", "texts"), BAD_KEYS, ids=["missing", "extra", "shape", "dtype", "both", "inference"]
)
def test_keys_that_do_not_fit_are_named_and_nothing_is_written(tmp_path, out, changes, texts):
    source = write_dit(tmp_path / "checkpoints", changes)
    with pytest.raises(CheckpointError) as error:
        convert(source, out)
    assert all(text in str(error.value) for text in [*texts, str(source / DIT)])
    assert not out.exists()


def test_one_bad_network_keeps_the_good_ones_from_being_written(tmp_path, out):
    source = copy_golden(tmp_path / "checkpoints", DIT, T5)
    (source / T5 / "config.json").write_text('{"d_model": 1}')
    with pytest.raises(CheckpointError, match="d_model"):
        convert(source, out)
    assert not out.exists()


def test_a_truncated_archive_is_refused(tmp_path, out):
    source = copy_golden(tmp_path / "checkpoints", DIT)
    path = source / DIT / "model.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"model.pt: .*download it again"):
        convert(source, out)
    assert not out.exists()


def test_a_file_that_changes_meanwhile_is_refused(tmp_path, out, monkeypatch):
    source = write_dit(tmp_path / "checkpoints")
    check_space = conversion.check_space

    def touch(*args):
        os.utime(source / DIT / "model.safetensors", ns=(1, 1))
        check_space(*args)

    monkeypatch.setattr(conversion, "check_space", touch)
    with pytest.raises(CheckpointError, match="changed after it was opened"):
        convert(source, out)
    assert not out.exists()


def test_the_md5_policy_is_applied_before_anything_is_written(tmp_path, out, log):
    source = copy_golden(tmp_path / "checkpoints", DIT)
    with pytest.raises(CheckpointError, match="expected 48a0bdc99d5e41eee05ba8597c4851da"):
        convert(source, out, md5="require")
    assert not out.exists()
    convert(source, out, md5="skip")
    assert "published" not in log.text
    with pytest.raises(CheckpointError, match="expected 48a0bdc99d5e41eee05ba8597c4851da"):
        convert(source, out, md5="require")
    convert(source, out, md5="warn", overwrite=True)
    assert "not the published file" in log.text


def test_what_is_done_is_left_alone_and_what_differs_is_not_replaced(tmp_path, out):
    source = write_dit(tmp_path / "checkpoints")
    convert(source, out)
    before = everything_below(out)
    assert convert(source, out) == [out / DIT]
    assert everything_below(out) == before
    os.utime(source / DIT / "model.safetensors")
    convert(source, out)
    assert everything_below(out) == before
    with pytest.raises(CheckpointError, match=r"converted already, but with dtype None.*\n.*--overwrite"):
        convert(source, out, dtype="float32")
    write_dit(tmp_path / "checkpoints", {"net.affline_norm.weight": np.zeros(128, ml_dtypes.bfloat16)})
    with pytest.raises(CheckpointError, match=r"model.safetensors has changed since"):
        convert(source, out)
    (source / DIT / "model.safetensors").rename(source / DIT / "kept")
    copy_golden(tmp_path / "again", DIT)
    with pytest.raises(CheckpointError, match=r"from model.safetensors"):
        convert(tmp_path / "again", out)
    assert everything_below(out) == before


def test_overwrite_replaces_a_network_whole(tmp_path, out):
    source = write_dit(tmp_path / "checkpoints")
    convert(source, out)
    (out / DIT / "params" / "time_norm.scale" / "zarr.json").unlink()
    with pytest.raises(CheckpointError, match=r"incomplete.*--overwrite"):
        convert(source, out)
    convert(source, out, overwrite=True, dtype="float32")
    assert find_component(out, "diffusion_transformer").dtype == "float32"
    assert_nothing_written(out, [DIT])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_other_things_is_never_replaced(tmp_path, overwrite):
    source = write_dit(tmp_path / "checkpoints")
    before = everything_below(source)
    with pytest.raises(CheckpointError, match="holds what this program did not write there"):
        convert(source, source, overwrite=overwrite)
    assert everything_below(source) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "stop"])
def test_a_failure_while_writing_leaves_what_is_done_and_is_mended_by_running_again(out, monkeypatch, error):
    calls = []

    def save(path, params):
        calls.append(path)
        write_params(path, params)
        if len(calls) == 2:
            raise error

    write_params = storing.write_params
    monkeypatch.setattr(storing, "write_params", save)
    names = ("diffusion_transformer", "text_encoder")
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else CheckpointError
    with pytest.raises(expected):
        convert(golden.CHECKPOINTS, out, components=names)
    assert_nothing_written(out, [DIT])
    first = everything_below(out)
    convert(golden.CHECKPOINTS, out, components=names)
    assert [path.parent.name for path in calls[2:]] == [".t5-11b.converting"]
    assert {name: content for name, content in everything_below(out).items() if name in first} == first


def test_a_full_disk_while_a_layer_is_written_is_named(out, monkeypatch):
    def full(handler, values, infos, args=None):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 32 bytes: No space left on device")

    monkeypatch.setattr("jax_interp.runtime.checkpoint.param_files._StreamHandler.serialize", full)
    with pytest.raises(CheckpointError, match="the disk is full; nothing of it was kept"):
        convert(golden.CHECKPOINTS, out, components=("diffusion_transformer",))
    assert not out.exists()


def test_a_disk_that_is_too_small_is_refused_before_writing(out, monkeypatch):
    usage = type("usage", (), {"free": 1 << 20})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"are needed and 1.0 MB are free"):
        convert(golden.CHECKPOINTS, out, components=("diffusion_transformer",))
    assert not out.exists()


def test_leftovers_of_a_killed_run_are_cleared(tmp_path, out, log):
    source = write_dit(tmp_path / "checkpoints")
    half = out / f".{DIT}.converting" / "params"
    half.mkdir(parents=True)
    (half / "half").write_text("half")
    convert(source, out)
    assert "removed what an interrupted conversion had left" in log.text
    assert_nothing_written(out, [DIT])


def test_networks_are_chosen_by_name_and_folder(tmp_path, out):
    source = write_dit(tmp_path / "checkpoints", name="mine/tuned")
    folders = {"diffusion_transformer": "mine/tuned"}
    assert convert(source, out, folders=folders) == [out / "mine" / "tuned"]
    with pytest.raises(CheckpointError, match=f"nothing to convert; looked for {DIT}/model.pt or.*--tokenizer-dir"):
        convert(source, out)
    with pytest.raises(CheckpointError, match=r"tokenizer lacks encoder.jit or encoder.safetensors; decoder.jit"):
        convert(source, out, components=("tokenizer",))
    with pytest.raises(CheckpointError, match="tokenizer lacks"):
        convert(source, out, folders=folders | {"tokenizer": "absent"})
    with pytest.raises(UsageError, match="unknown dit; there are diffusion_transformer, tokenizer, text_encoder"):
        convert(source, out, components=("dit",))
    with pytest.raises(CheckpointError, match="absent: no such folder"):
        convert(tmp_path / "absent", out)


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp", ""])
def test_folders_outside_are_refused(tmp_path, out, name):
    with pytest.raises(UsageError, match="must be a folder inside --checkpoint-dir"):
        convert(golden.CHECKPOINTS, out, folders={"diffusion_transformer": name})


def test_a_post_trained_checkpoint_gives_the_chosen_weights(tmp_path, out):
    tensors = dit_tensors()
    both = {f"model.{key}": tensor for key, tensor in tensors.items()}
    both |= {f"ema.{key.replace('.', '-')}": tensor[::-1].copy() for key, tensor in tensors.items()}
    (tmp_path / "checkpoints" / DIT).mkdir(parents=True)
    write_tensors(tmp_path / "checkpoints" / DIT / "model.safetensors", both)
    for weights in ("model", "ema"):
        (folder,) = convert(tmp_path / "checkpoints", out / weights, weights=weights)
        kernel = open_array(folder / "params", "blocks/mlp/up/kernel")[1].read().result()
        step = 1 if weights == "model" else -1
        np.testing.assert_array_equal(kernel, tensors[UP.format(1)][::step].T)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_unless_they_are_allowed(tmp_path, out, bad):
    key = UP.format(1)
    weights = dit_tensors()[key].copy()
    weights[3, 5] = bad
    command = ("convert", "--checkpoint-dir", write_dit(tmp_path / "in", {key: weights}), "--output-dir", out)
    refused = jax_interp(*command)
    assert refused.code == 3
    assert f"model.safetensors: {key}: {int(np.isnan(bad))} NaN and {int(np.isinf(bad))} infinite" in refused.output
    assert "--allow-non-finite" in refused.output
    assert not out.exists()
    allowed = jax_interp(*command, "--allow-non-finite")
    assert allowed.code == 0
    assert "has weights that are not finite" in allowed.output
    kernel = open_array(out / DIT / "params", "blocks/mlp/up/kernel")[1].read().result()
    assert kernel.tobytes() == weights.T.tobytes()


def test_a_flipped_bit_in_an_archive_ends_the_conversion(tmp_path, out):
    """The bit of a weight: the CRC-32 of its storage tells, before anything has its name."""
    source = copy_golden(tmp_path / "checkpoints", DIT)
    path = source / DIT / "model.pt"
    offset = open_archive(path)[UP.format(1)].offset
    data = bytearray(path.read_bytes())
    data[offset + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"model\.pt: {UP.format(1)}: its bytes are not those that were saved"):
        convert(source, out)
    assert not out.exists()


@pytest.mark.slow
def test_files_that_have_no_checksums_are_named(out, log):
    convert(golden.CHECKPOINTS, out)
    lines = [line for line in log.text.splitlines() if "no checksums" in line]
    assert len(lines) == 1
    assert f"{TOKENIZER}: decoder.safetensors, encoder.safetensors have no checksums" in lines[0]


_MEASURE = """
import resource, sys
from pathlib import Path
from convert.conversion import ConversionRequest, convert_checkpoints

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

source, small, out = map(Path, sys.argv[1:])
convert_checkpoints(ConversionRequest(checkpoint_dir=small, output_dir=out / "small"))
before = peak()
convert_checkpoints(ConversionRequest(checkpoint_dir=source, output_dir=out / "large", md5="skip"))
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_stays_below_the_largest_array(tmp_path):
    config = DiTConfig(
        width=64, num_heads=2, head_width=32, num_blocks=16, mlp_width=1 << 16, text_width=8, adaln_rank=8
    )
    source = tmp_path / "checkpoints"
    write_sparse_dit(source / DIT, config)
    small = write_dit(tmp_path / "small")
    command = [sys.executable, "-W", "error", "-c", _MEASURE, str(source), str(small), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    largest = 16 * 64 * (1 << 16) * 2
    assert int(done.stdout) < largest


def write_sparse_dit(folder, config):
    """A bfloat16 transformer of zeros that takes no room on the disk."""
    shapes = {
        key: leaf.op.inverse(np.broadcast_to(np.uint8(0), leaf.part_shape)).shape
        for leaf in DIFFUSION_TRANSFORMER.plan(config)
        for key in leaf.keys
    }
    header, end = {}, 0
    for key, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
