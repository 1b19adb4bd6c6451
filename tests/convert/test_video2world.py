"""Transformers of Video2World: the 14B's rotary ratios, and what a network was trained for, are told at conversion."""

import json
import shutil

import numpy as np
import pytest

from convert.conversion import ConversionRequest, convert_checkpoints
from convert.hub import catalog
from jax_interp.components import transformer_type
from jax_interp.config import DIT_7B, DIT_14B, published_rotary_ratio
from jax_interp.errors import CheckpointError
from jax_interp.models.dit import DiT
from jax_interp.nn.params import Network, flatten
from jax_interp.runtime.checkpoint.converted import open_component
from jax_interp.runtime.checkpoint.finding import find_component, find_transformer
from tests import golden

SMALL, LARGE = "Cosmos-Predict1-7B-Video2World", "Cosmos-Predict1-14B-Video2World"
INTERPOLATOR = "Cosmos-Predict1-7B-WorldInterpolator"
MODEL = golden.VIDEO2WORLD / "checkpoints" / SMALL / "model.pt"


def convert(checkpoints, target, *names, **options):
    """Convert the golden transformer, once as each of `names`."""
    for name in names:
        (checkpoints / name).mkdir(parents=True)
        shutil.copyfile(MODEL, checkpoints / name / "model.pt")
        folders = {"diffusion_transformer": name}
        convert_checkpoints(
            ConversionRequest(checkpoint_dir=checkpoints, output_dir=target, folders=folders, **options)
        )


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    root = tmp_path_factory.mktemp("transformers")
    convert(root / "checkpoints", root / "converted", SMALL, LARGE, INTERPOLATOR, "mine")
    return root / "converted"


@pytest.mark.parametrize(("name", "ratio"), [(SMALL, (2.0, 1.0, 1.0)), (LARGE, (2.0, 2.0, 2.0))])
def test_rotary_ratios_are_those_of_the_release(several, name, ratio):
    assert open_component(several / name).config.rotary_ratio == ratio


def test_sizes_of_a_published_network_decide_whatever_its_folder_is_called():
    assert published_rotary_ratio(DIT_14B, "my-run") == (2.0, 2.0, 2.0)
    assert published_rotary_ratio(DIT_7B, LARGE) == (2.0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["run-114b", "14bits", "b14", "Cosmos-Predict1-7B-Video2World"])
def test_other_names_are_not_a_14bs(several, name):
    assert published_rotary_ratio(open_component(several / SMALL).config, name) == (2.0, 1.0, 1.0)


def test_a_14b_that_was_converted_with_the_7bs_ratios_is_noticed(several, tmp_path):
    shutil.copytree(several / LARGE, tmp_path / LARGE)
    described = json.loads((tmp_path / LARGE / "config.json").read_text())
    described["config"]["rotary_ratio"] = [2.0, 1.0, 1.0]
    (tmp_path / LARGE / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match=r"rotary_ratio is \[2.0, 1.0, 1.0\].*convert it again.*--overwrite"):
        find_component(tmp_path, "diffusion_transformer")
    with pytest.raises(CheckpointError, match="convert it again"):
        convert(tmp_path / "checkpoints", tmp_path, LARGE)
    shutil.rmtree(tmp_path / "checkpoints")
    convert(tmp_path / "checkpoints", tmp_path, LARGE, overwrite=True)
    assert find_component(tmp_path, "diffusion_transformer").config.rotary_ratio == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (SMALL, "Video2World"),
        (INTERPOLATOR, "WorldInterpolator"),
        ("my_video2world-run", "Video2World"),
        ("world-interpolator", "WorldInterpolator"),
        ("mine", None),
        ("video2world-from-worldinterpolator", None),
    ],
)
def test_what_names_tell(name, expected):
    assert transformer_type(name) == expected


def test_what_a_network_was_trained_for_is_noted_and_stays_when_the_folder_is_renamed(several, tmp_path):
    shutil.copytree(several / INTERPOLATOR, tmp_path / "mine")
    assert open_component(tmp_path / "mine").transformer_type == "WorldInterpolator"
    assert open_component(several / "mine").transformer_type is None


def test_a_published_file_is_known_by_its_md5(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.PUBLISHED_MD5, f"{SMALL}/model.pt", golden_md5())
    convert(tmp_path / "checkpoints", tmp_path / "converted", "mine")
    assert open_component(tmp_path / "converted" / "mine").transformer_type == "Video2World"


def golden_md5():
    import hashlib

    return hashlib.md5(MODEL.read_bytes()).hexdigest()


def test_each_pipeline_finds_its_own_transformer(several):
    assert find_transformer(several, "Video2World").path.name == SMALL
    assert find_transformer(several, "WorldInterpolator").path.name == INTERPOLATOR
    assert find_transformer(several, "Video2World", LARGE).path.name == LARGE
    assert find_transformer(several, "Video2World", "mine").path.name == "mine"


def test_the_only_one_of_its_type_is_found(several, tmp_path):
    for name in (LARGE, INTERPOLATOR):
        shutil.copytree(several / name, tmp_path / name)
    assert find_transformer(tmp_path, "Video2World").path.name == LARGE


def test_several_without_the_default_one_want_a_choice(several, tmp_path):
    for name in (LARGE, INTERPOLATOR, "mine"):
        shutil.copytree(several / name, tmp_path / name)
    with pytest.raises(CheckpointError, match=f"choose one with --diffusion-transformer-dir: {LARGE}, mine"):
        find_transformer(tmp_path, "Video2World")


@pytest.mark.parametrize(("there", "wanted"), [(SMALL, "WorldInterpolator"), (INTERPOLATOR, "Video2World")])
@pytest.mark.parametrize("named", [False, True])
def test_a_transformer_of_the_other_type_is_refused(several, tmp_path, there, wanted, named):
    shutil.copytree(several / there, tmp_path / there)
    with pytest.raises(CheckpointError, match=f"is a {transformer_type(there)} transformer, expected a {wanted} one"):
        find_transformer(tmp_path, wanted, there if named else None)


def test_converted_arrays_do_not_depend_on_the_name(several):
    one, other = (open_component(several / name).manifest["params"] for name in (SMALL, LARGE))
    assert one == other
    config = open_component(several / SMALL).config
    abstract = Network(lambda rngs: DiT(config, dtype=np.float32, rngs=rngs)).abstract
    assert {path for path, _ in flatten(abstract)} == set(one)


def test_every_published_transformer_that_is_there_is_converted(tmp_path):
    for name in (SMALL, LARGE):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        shutil.copyfile(MODEL, tmp_path / "checkpoints" / name / "model.pt")
    done = convert_checkpoints(
        ConversionRequest(checkpoint_dir=tmp_path / "checkpoints", output_dir=tmp_path / "converted")
    )
    assert [path.name for path in done] == [SMALL, LARGE]


def test_a_transformer_that_is_asked_for_and_not_there_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    request = ConversionRequest(
        checkpoint_dir=tmp_path / "checkpoints", output_dir=tmp_path, components=("diffusion_transformer",)
    )
    with pytest.raises(CheckpointError, match=INTERPOLATOR):
        convert_checkpoints(request)
