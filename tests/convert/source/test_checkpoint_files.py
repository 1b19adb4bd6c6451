import hashlib
import json
import shutil

import numpy as np
import pytest

from convert.networks.components import DIFFUSION_TRANSFORMER, TEXT_ENCODER, TOKENIZER
from convert.source.checkpoint_files import locate, open_checkpoint
from convert.source.checksums import checksum
from jax_interp.errors import CheckpointError
from tests import golden
from tests.convert import checkpoints
from tests.convert.checkpoints import copy_golden, dit_tensors, write_tensors


@pytest.mark.parametrize("size", [0, 1, 5000, 1 << 23, (1 << 23) + 1, (5 << 23) - 3])
def test_checksums_of_one_pass_are_those_of_the_file(tmp_path, rng, size):
    content, done = rng.bytes(size), []
    (tmp_path / "file").write_bytes(content)
    sums = checksum(tmp_path / "file", done.append, with_md5=True)
    assert (sums.sha256, sums.md5) == (hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest())
    assert (sums.size, sum(done)) == (size, size)
    assert checksum(tmp_path / "file", int, with_md5=False).md5 is None


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="absent: cannot be read"):
        checksum(tmp_path / "absent", int, with_md5=True)


def test_keys_of_several_files_are_kept_apart():
    opened = open_checkpoint(TOKENIZER, golden.CHECKPOINTS / checkpoints.TOKENIZER, None)
    assert opened.shapes["mean_std.0"] == (16, 16)
    assert opened.shapes["image_mean_std.1"] == (16,)
    assert {"encoder.conv_in.0.conv3d.bias", "post_quant_conv.conv3d.bias"} <= opened.shapes.keys()
    names = [file.name for file in opened.files]
    assert names == ["encoder.safetensors", "decoder.safetensors", "mean_std.pt", "image_mean_std.pt"]


def test_every_missing_file_is_named_with_its_spellings(tmp_path):
    folder = copy_golden(tmp_path, checkpoints.TOKENIZER) / checkpoints.TOKENIZER
    (folder / "decoder.safetensors").unlink()
    (folder / "mean_std.pt").unlink()
    with pytest.raises(
        CheckpointError, match=r"lacks decoder.jit or decoder.safetensors; mean_std.pt or.*--tokenizer-dir"
    ):
        open_checkpoint(TOKENIZER, folder, None)


def test_files_beside_the_weights_are_needed_too(tmp_path):
    folder = copy_golden(tmp_path, checkpoints.T5) / checkpoints.T5
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"text_encoder lacks tokenizer.json"):
        open_checkpoint(TEXT_ENCODER, folder, None)


def test_a_key_in_two_files_is_refused(tmp_path):
    folder = copy_golden(tmp_path, checkpoints.TOKENIZER) / checkpoints.TOKENIZER
    shutil.copyfile(folder / "encoder.safetensors", folder / "decoder.safetensors")
    with pytest.raises(CheckpointError, match="also lies in another file"):
        open_checkpoint(TOKENIZER, folder, None)


def test_a_checkpoint_in_several_files_is_one(tmp_path, rng):
    weights = {"a": rng.standard_normal(3, np.float32), "b": rng.standard_normal(2, np.float32)}
    for name, key in (("1.safetensors", "a"), ("2.safetensors", "b")):
        write_tensors(tmp_path / name, {key: weights[key]})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    (tmp_path / "tokenizer.json").write_text("{}")
    opened = open_checkpoint(TEXT_ENCODER, tmp_path, None)
    assert sorted(file.name for file in opened.files) == ["1.safetensors", "2.safetensors", index.name]
    np.testing.assert_array_equal(opened.tensors["b"].read(), weights["b"])


def test_of_several_spellings_the_first_is_read(tmp_path):
    folder = checkpoints.write_dit(copy_golden(tmp_path, checkpoints.DIT)) / checkpoints.DIT
    assert [path.name for path in locate(DIFFUSION_TRANSFORMER, folder).values()] == ["model.pt"]


@pytest.mark.parametrize("weights", ["model", "ema"])
def test_post_trained_files_hold_two_sets(tmp_path, weights):
    tensors = dit_tensors()
    both = {f"model.{key}": tensor for key, tensor in tensors.items()}
    both |= {f"ema.{key.replace('.', '-')}": tensor + tensor.dtype.type(1) for key, tensor in tensors.items()}
    write_tensors(tmp_path / "model.safetensors", both)
    opened = open_checkpoint(DIFFUSION_TRANSFORMER, tmp_path, weights)
    assert opened.tensors.keys() == tensors.keys()
    key = "net.affline_norm.weight"
    expected = tensors[key] + tensors[key].dtype.type(weights == "ema")
    np.testing.assert_array_equal(opened.tensors[key].read(), expected)


def test_choosing_among_one_set_is_an_error():
    with pytest.raises(CheckpointError, match="leave --weights out"):
        open_checkpoint(DIFFUSION_TRANSFORMER, golden.CHECKPOINTS / checkpoints.DIT, "ema")
    assert open_checkpoint(TEXT_ENCODER, golden.CHECKPOINTS / checkpoints.T5, "ema").tensors
