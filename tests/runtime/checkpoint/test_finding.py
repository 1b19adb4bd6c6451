"""Which networks a folder has, and what is said of one that is absent or spoilt."""

import shutil

import pytest

from jax_interp.config import DiTConfig
from jax_interp.errors import CheckpointError
from jax_interp.runtime.checkpoint.finding import find_component
from tests import golden
from tests.convert.checkpoints import DIT, T5
from tests.runtime.checkpoint.spoiling import remove_chunk, remove_params, rewrite

OTHER = "Cosmos-Predict1-7B-Video2World"


def remove_config(folder):
    (folder / DIT / "config.json").unlink()


def remove_manifest(folder):
    (folder / DIT / "manifest.json").unlink()


def shorten_chunk(folder):
    chunk = next((folder / DIT / "params" / "blocks.mlp.up.kernel" / "c").rglob("0/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])


def interrupt(folder):
    (folder / DIT).rename(folder / f".{DIT}.converting")


def remove_network(folder):
    shutil.rmtree(folder / DIT)


def break_config(folder):
    (folder / DIT / "config.json").write_text('{"component": "diff')


def break_manifest(folder):
    (folder / DIT / "manifest.json").write_text("[1]")


def empty_manifest(folder):
    (folder / DIT / "manifest.json").write_text("{}")


def newer(folder):
    rewrite(folder / DIT / "config.json", lambda values: values.update(format_version=3))


def without_version(folder):
    rewrite(folder / DIT / "config.json", lambda values: values.pop("format_version"))


def unknown_field(folder):
    rewrite(folder / DIT / "config.json", lambda values: values["config"].update(depth=3))


BROKEN = [
    (remove_config, "incomplete, it lacks config.json"),
    (remove_manifest, "incomplete, it lacks manifest.json"),
    (remove_params, "incomplete, params/.*missing"),
    (remove_chunk, r"incomplete, params/blocks.mlp.up.kernel/c/0/0/0 is missing; convert it again"),
    (shorten_chunk, r"kernel/c/0/0/0 has \d+ bytes, expected \d+"),
    (interrupt, "interrupted; run `jax-interp convert .*--components diffusion_transformer`"),
    (remove_network, "has no diffusion_transformer .*run `jax-interp convert"),
    (break_config, "config.json: damaged"),
    (break_manifest, "manifest.json: damaged"),
    (empty_manifest, "lacks sources, params, files"),
    (newer, "of format 3, this program reads up to 2; upgrade"),
    (without_version, "damaged or not written by jax-interp"),
    (unknown_field, "not a DiTConfig of this version.*depth"),
]


def test_a_network_is_found_by_kind_by_name_and_in_its_own_folder(copied):
    found = find_component(copied, "diffusion_transformer")
    assert (found.path, found.component, found.dtype) == (copied / DIT, "diffusion_transformer", "bfloat16")
    assert isinstance(found.config, DiTConfig)
    assert (found.config.width, found.config.grid) == (128, (16, 16, 16))
    assert find_component(str(copied), "diffusion_transformer", DIT) == found
    assert find_component(copied / DIT, "diffusion_transformer") == found
    assert find_component(copied, "text_encoder").path == copied / T5


def test_among_several_the_default_is_taken_else_a_flag_is_asked_for(copied):
    shutil.copytree(copied / DIT, copied / OTHER)
    assert find_component(copied, "diffusion_transformer").path.name == DIT
    assert find_component(copied, "diffusion_transformer", OTHER).path.name == OTHER
    (copied / DIT).rename(copied / "mine")
    with pytest.raises(CheckpointError, match=f"--diffusion-transformer-dir: {OTHER}, mine"):
        find_component(copied, "diffusion_transformer")
    shutil.rmtree(copied / OTHER)
    assert find_component(copied, "diffusion_transformer").path.name == "mine"


@pytest.mark.parametrize("name", [None, DIT])
@pytest.mark.parametrize(("damage", "text"), BROKEN, ids=[damage.__name__ for damage, _ in BROKEN])
def test_what_is_not_whole_is_refused(copied, damage, text, name):
    damage(copied)
    with pytest.raises(CheckpointError, match=text) as error:
        find_component(copied, "diffusion_transformer", name)
    assert str(copied) in str(error.value)


def test_an_absent_folder_and_an_unconverted_one_say_what_to_run(tmp_path):
    with pytest.raises(CheckpointError, match="absent: no such folder; make it with `jax-interp convert"):
        find_component(tmp_path / "absent", "tokenizer")
    for name in (None, DIT):
        with pytest.raises(
            CheckpointError, match=r"not converted.*PyTorch file; run `jax-interp convert --checkpoint-dir"
        ):
            find_component(golden.CHECKPOINTS, "diffusion_transformer", name)
    with pytest.raises(CheckpointError, match=r"model.pt is a PyTorch file"):
        find_component(golden.CHECKPOINTS / DIT, "diffusion_transformer")


def test_a_network_of_another_kind_is_refused(copied):
    with pytest.raises(CheckpointError, match="is a text_encoder, expected a diffusion_transformer"):
        find_component(copied, "diffusion_transformer", T5)


def test_other_programs_settings_are_passed_over(copied):
    (copied / "stuff").mkdir()
    (copied / "stuff" / "config.json").write_text("not even JSON")
    assert find_component(copied, "diffusion_transformer").path.name == DIT
