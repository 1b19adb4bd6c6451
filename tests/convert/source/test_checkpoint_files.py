import hashlib
import json
import logging
import shutil

import numpy as np
import pytest

from convert.formats.archive import open_archive
from convert.networks.components import COMPONENTS, DIFFUSION_TRANSFORMER, FACE_BLUR, TEXT_ENCODER, TOKENIZER
from convert.source.checkpoint_files import infer_network, locate, open_checkpoint
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


def shard(folder, name, tensors, shards=3):
    """A checkpoint in several files with an index, called as `name` would be if it were one file."""
    keys = list(tensors)
    weight_map = {key: f"part-{index % shards}.safetensors" for index, key in enumerate(keys)}
    for part in set(weight_map.values()):
        write_tensors(folder / part, {key: tensors[key] for key in keys if weight_map[key] == part})
    (folder / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def read(path):
    return {key: tensor.read() for key, tensor in open_archive(path).items()}


@pytest.mark.parametrize(
    ("component", "name", "file"),
    [
        (DIFFUSION_TRANSFORMER, checkpoints.DIT, "model.pt"),
        (TEXT_ENCODER, checkpoints.T5, "pytorch_model.bin"),
        (TOKENIZER, checkpoints.TOKENIZER, "encoder.safetensors"),
        (TOKENIZER, checkpoints.TOKENIZER, "mean_std.pt"),
    ],
)
@pytest.mark.parametrize("spelling", ["as published", "as safetensors"])
def test_every_network_may_lie_in_several_files(tmp_path, component, name, file, spelling):
    folder = copy_golden(tmp_path, name) / name
    whole = {key: tensor.read() for key, tensor in open_checkpoint(component, folder, None).tensors.items()}
    tensors = read(folder / file)
    (folder / file).unlink()
    known = [n for source in component.sources if file in source.names for n in source.names if "index" not in n]
    shard(folder, file if spelling == "as published" else next(n for n in known if n.endswith(".safetensors")), tensors)
    opened = open_checkpoint(component, folder, None)
    assert {key: tensor.read().tobytes() for key, tensor in opened.tensors.items()} == {
        key: values.tobytes() for key, values in whole.items()
    }
    assert {"part-0.safetensors", "part-1.safetensors"} <= {path.name for path in opened.files}
    infer_network(component, opened)


def test_every_source_may_be_an_index(tmp_path):
    for component in COMPONENTS.values():
        for source in component.sources:
            for name in source.names:
                folder = tmp_path / component.name / name.replace("/", "-").replace("*", "x")
                path = folder / name.replace("*", "x")
                path = path if path.name.endswith(".index.json") else path.with_name(f"{path.name}.index.json")
                path.parent.mkdir(parents=True)
                path.write_text("{}")
                assert locate(component, folder)[source] == path


def test_of_several_files_of_one_network_it_is_said_which_is_read(tmp_path, caplog):
    folder = checkpoints.write_dit(copy_golden(tmp_path, checkpoints.DIT)) / checkpoints.DIT
    (folder / "model.safetensors.index.json").write_text("{}")
    with caplog.at_level(logging.INFO, "jax_interp"):
        opened = open_checkpoint(DIFFUSION_TRANSFORMER, folder, None)
    assert [path.name for path in opened.files] == ["model.pt"]
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"{folder}: model.pt is read; model.safetensors and model.safetensors.index.json")
    caplog.clear()
    open_checkpoint(TOKENIZER, golden.CHECKPOINTS / checkpoints.TOKENIZER, None)
    assert not caplog.records


OUTER = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]


@pytest.mark.parametrize("outer", OUTER)
def test_wrappers_of_pytorch_are_left_out_of_the_keys(tmp_path, outer, caplog):
    tensors = dit_tensors()
    write_tensors(tmp_path / "model.safetensors", {outer + key: tensor for key, tensor in tensors.items()})
    with caplog.at_level(logging.INFO, "jax_interp"):
        opened = open_checkpoint(DIFFUSION_TRANSFORMER, tmp_path, None)
    assert opened.tensors.keys() == tensors.keys()
    assert f"model.safetensors: its keys begin with {outer!r}" in caplog.text
    infer_network(DIFFUSION_TRANSFORMER, opened)


def test_wrappers_are_left_out_of_both_sets_of_a_post_trained_file(tmp_path):
    tensors = dit_tensors()
    both = {f"model.module.{key}": tensor for key, tensor in tensors.items()}
    both |= {f"ema.module-{key.replace('.', '-')}": tensor for key, tensor in tensors.items()}
    write_tensors(tmp_path / "model.safetensors", both)
    for weights in ("model", "ema"):
        assert open_checkpoint(DIFFUSION_TRANSFORMER, tmp_path, weights).tensors.keys() == tensors.keys()


def test_a_beginning_that_one_key_lacks_is_not_a_wrapper(tmp_path):
    first, *others = dit_tensors()
    renamed = {first: dit_tensors()[first]} | {f"module.{key}": dit_tensors()[key] for key in others}
    write_tensors(tmp_path / "model.safetensors", renamed)
    opened = open_checkpoint(DIFFUSION_TRANSFORMER, tmp_path, None)
    assert opened.tensors.keys() == renamed.keys()
    with pytest.raises(CheckpointError):
        infer_network(DIFFUSION_TRANSFORMER, opened)


@pytest.mark.parametrize("outer", ["", "module.", "module._orig_mod."])
def test_the_face_detector_is_published_with_a_wrapper_and_read_with_or_without(tmp_path, outer):
    weights = {f"{outer}body.conv1.weight": np.zeros((4, 3, 7, 7), np.float32)}
    write_tensors(tmp_path / "Resnet50_Final.safetensors", weights)
    assert list(open_checkpoint(FACE_BLUR, tmp_path, None).tensors) == ["module.body.conv1.weight"]
