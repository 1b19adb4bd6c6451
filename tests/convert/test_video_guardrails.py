"""Conversion and export of the networks that look at frames, in every layout that their files come in."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import transformers
from safetensors.torch import load_file

from convert.conversion import ConversionRequest, convert_checkpoints
from convert.exporting import export_checkpoints
from convert.formats.locating import find_file
from convert.networks.components import FACE_BLUR, VIDEO_SAFETY
from jax_interp import config
from jax_interp.components import TABLE
from jax_interp.config import RetinaFaceConfig, SiglipVisionConfig, VideoSafetyConfig
from jax_interp.errors import CheckpointError
from jax_interp.nn.params import flatten
from jax_interp.runtime.checkpoint.finding import find_component, has_component
from tests.convert.checkpoints import everything_below
from tests.models import video_peers

TINY = VideoSafetyConfig(
    tower=SiglipVisionConfig(width=24, num_layers=3, num_heads=4, mlp_width=40, patch_size=14, image_size=45),
    head_widths=(20, 12),
)
PLACES = [video_peers.SIGLIP, video_peers.CACHE, f"{video_peers.SIGLIP}/{video_peers.CACHE}"]


def convert(root, **options):
    convert_checkpoints(
        ConversionRequest(checkpoint_dir=root / "checkpoints", output_dir=root / "converted", **options)
    )
    return root / "converted"


def write_video(root, place=video_peers.SIGLIP):
    return video_peers.write_video_safety(
        root / "checkpoints", video_peers.siglip(), video_peers.safety_filter(), place
    )


def arrays(folder):
    found = everything_below(folder)
    return {
        name: content
        for name, content in found.items()
        if "/c/" in name or name.endswith(("zarr.json", "/config.json"))
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A folder with `checkpoints` and `converted` of both networks."""
    root = tmp_path_factory.mktemp("guardrails")
    write_video(root)
    video_peers.write_face_blur(root / "checkpoints", video_peers.retinaface())
    convert(root)
    return root


@pytest.mark.slow
def test_both_are_found_where_they_are_by_default(both):
    assert find_component(both / "converted", "video_safety").config == TINY
    assert find_component(both / "converted", "face_blur").config == RetinaFaceConfig(
        width=4, num_blocks=(1, 2, 1, 1), neck_width=16
    )
    for name in ("video_safety", "face_blur"):
        assert find_component(both / "converted", name).path == both / "converted" / TABLE[name].folder


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_siglip_is_found_in_every_layout(both, tmp_path, place):
    write_video(tmp_path, place)
    assert arrays(convert(tmp_path) / TABLE["video_safety"].folder) == arrays(
        both / "converted" / TABLE["video_safety"].folder
    )


def test_a_cache_of_links_is_read(tmp_path):
    folder = write_video(tmp_path, video_peers.CACHE)
    snapshot = folder / video_peers.CACHE
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    for index, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(index))
        path.symlink_to(blobs / str(index))
    assert find_component(convert(tmp_path), "video_safety").config == TINY


def test_two_snapshots_are_one_too_many(tmp_path):
    folder = write_video(tmp_path, video_peers.CACHE)
    shutil.copytree(folder / video_peers.CACHE, (folder / video_peers.CACHE).with_name("0" * 40))
    with pytest.raises(CheckpointError, match="of which one is wanted"):
        convert(tmp_path)


@pytest.mark.slow
def test_the_face_detector_is_read_as_pytorch_wrote_it_in_2019(both, tmp_path):
    options = {"_use_new_zipfile_serialization": False}
    video_peers.write_face_blur(tmp_path / "checkpoints", video_peers.retinaface(), **options)
    assert arrays(convert(tmp_path) / TABLE["face_blur"].folder) == arrays(
        both / "converted" / TABLE["face_blur"].folder
    )


def test_files_are_found_by_exact_name_and_by_pattern(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").touch()
    assert find_file(tmp_path, "a/b/c") == find_file(tmp_path, "a/*/c") == tmp_path / "a/b/c"
    assert find_file(tmp_path, "a/b") is None
    assert find_file(tmp_path, "*/x") is None


def test_missing_files_are_named(tmp_path):
    folder = write_video(tmp_path)
    (folder / "safety_filter.pt").unlink()
    with pytest.raises(CheckpointError, match=r"video_safety lacks safety_filter\.pt"):
        convert(tmp_path, components=("video_safety",))


def test_unknown_missing_and_misshapen_keys_are_named(tmp_path):
    folder = write_video(tmp_path)
    state = torch.load(folder / "safety_filter.pt", weights_only=True)
    state["model"]["network.layers.9.weight"] = torch.zeros(2)
    state["model"]["network.layers.4.running_var"] = torch.zeros(5)
    del state["model"]["network.layers.1.running_mean"]
    torch.save(state, folder / "safety_filter.pt")
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path)
    for key in ("layers.9.weight", "layers.4.running_var", "layers.1.running_mean"):
        assert key in str(caught.value)
    assert not has_component(tmp_path / "converted", "video_safety")


def test_without_settings_only_the_published_encoder_is_known(tmp_path):
    folder = write_video(tmp_path)
    (folder / video_peers.SIGLIP / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json, which says how many heads"):
        convert(tmp_path)
    shapes = {
        key: leaf.op.inverse(np.broadcast_to(np.int8(0), leaf.part_shape)).shape
        for leaf in VIDEO_SAFETY.plan(config.VIDEO_SAFETY)
        for key in leaf.keys
    }
    assert VIDEO_SAFETY.infer(shapes, tmp_path) == config.VIDEO_SAFETY


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("hidden_size", 32, "vision_config.hidden_size is 32, but the weights say"),
        ("hidden_act", "gelu", "vision_config.hidden_act is 'gelu', expected 'gelu_pytorch_tanh'"),
        ("num_attention_heads", 5, "multiple of num_attention_heads"),
        ("num_attention_heads", None, "vision_config.num_attention_heads is missing, expected"),
        ("image_size", 90, "for pictures of 90 pixels"),
    ],
)
def test_settings_that_contradict_are_refused(tmp_path, key, value, text):
    path = write_video(tmp_path) / video_peers.SIGLIP / "config.json"
    settings = json.loads(path.read_text())
    settings["vision_config"][key] = value
    path.write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=text):
        convert(tmp_path)


@pytest.mark.slow
def test_convert_undoes_export_bit_by_bit(both, tmp_path):
    export_checkpoints(both / "converted", tmp_path / "checkpoints")
    assert arrays(convert(tmp_path)) == arrays(both / "converted")


def test_exports_are_read_by_the_peers(both, tmp_path):
    export_checkpoints(both / "converted", tmp_path)
    folder = tmp_path / TABLE["video_safety"].folder
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "safety_filter.safetensors",
        "siglip.safetensors",
    }
    settings = json.loads((folder / "config.json").read_text())["vision_config"]
    tower = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**settings))
    weights = {
        key.removeprefix("vision_model."): value for key, value in load_file(folder / "siglip.safetensors").items()
    }
    tower.load_state_dict(weights)
    theirs = video_peers.siglip().vision_model.state_dict()
    assert all(torch.equal(theirs[key], value) for key, value in weights.items())
    faces = load_file(tmp_path / TABLE["face_blur"].folder / "Resnet50_Final.safetensors")
    theirs = video_peers.retinaface().state_dict()
    assert {key.removeprefix("module.") for key in faces} == {key for key in theirs if "num_batches" not in key}
    assert all(torch.equal(theirs[key.removeprefix("module.")], value) for key, value in faces.items())


@pytest.mark.slow
def test_the_published_networks_have_a_rule_for_every_array():
    for component, sizes in ((VIDEO_SAFETY, config.VIDEO_SAFETY), (FACE_BLUR, config.RETINAFACE_RESNET50)):
        leaves = component.plan(sizes)
        assert {leaf.path for leaf in leaves} == {path for path, _ in flatten(component.abstract(sizes))}
        for leaf in leaves:
            homes = [source.exported for source in component.sources if leaf.keys[0].startswith(source.keys)]
            assert len(homes) == 1, leaf.keys[0]
        used = {leaf.keys[0] for leaf in leaves}
        assert len(used) == len(leaves)
        assert all(entry.reason for entry in component.ignored)
    keys = {leaf.keys[0] for leaf in FACE_BLUR.plan(config.RETINAFACE_RESNET50)}
    assert {"module.body.layer3.5.conv2.weight", "module.ssh2.conv7x7_3.1.running_var"} <= keys
    assert {"module.fpn.merge1.0.weight", "module.LandmarkHead.2.conv1x1.bias"} <= keys
