"""Guardrails of which files are missing block, and say so at the door."""

import shutil

import pytest

pytest.importorskip("torch")


from jax_interp.components import TABLE
from jax_interp.pipeline.safety.guardrails import Guardrails
from jax_interp.runtime.placement import Placement
from tests.pipeline.safety.asking import EVERY, assert_blocked_by

MISSING = {
    "blocklist": "blocklist/custom/blocklist",
    "text_safety": "tokenizer/tokenizer.json",
    "video_safety": "params",
    "face_blur": "manifest.json",
}


@pytest.mark.parametrize("name", EVERY)
def test_a_missing_file_blocks_and_is_known_at_the_door(guarded, tmp_path, name):
    root = shutil.copytree(guarded, tmp_path / "converted")
    component = "text_safety" if name == "blocklist" else name
    path = root / TABLE[component].folder / MISSING[name]
    path.rename(tmp_path / "away")
    guardrails = Guardrails.open(root)
    ready = guardrails.check_ready()
    first = "blocklist" if component == "text_safety" else name  # the first that looks at the folder
    both = "blocklist, text_safety" if component == "text_safety" else first
    assert ready.reason.startswith(f"{both}: it could not tell: {root / TABLE[component].folder}")
    assert ready.reason.count("could not tell") == 1
    assert component not in [found.component for found in guardrails.converted_components]
    assert_blocked_by(guardrails, first, "convert")
    (tmp_path / "away").rename(path)
    assert guardrails.check_ready().allowed  # what is put there is found


@pytest.mark.parametrize("name", ["text_safety", "video_safety", "face_blur"])
def test_weights_that_vanish_after_the_door_block(guarded, tmp_path, name):
    root = shutil.copytree(guarded, tmp_path / "converted")
    guardrails = Guardrails.open(root)
    assert guardrails.check_ready().allowed
    shutil.rmtree(root / TABLE[name].folder / "params")
    assert_blocked_by(guardrails, name, "cannot be read")


@pytest.mark.parametrize("name", ["custom/blocklist", "nltk_data/corpora/wordnet.zip"])
def test_word_lists_that_vanish_after_the_door_block(guarded, tmp_path, name):
    root = shutil.copytree(guarded, tmp_path / "converted")
    guardrails = Guardrails.open(root)
    assert len(guardrails.converted_components) == 3
    (root / TABLE["text_safety"].folder / "blocklist" / name).unlink()
    assert_blocked_by(guardrails, "blocklist", "download")


def test_without_any_folder_everything_is_blocked(tmp_path):
    guardrails = Guardrails.open(tmp_path / "converted")
    assert guardrails.converted_components == []
    guardrails.place(Placement("streamed"))
    for name in ("blocklist", "video_safety"):
        assert_blocked_by(guardrails, name, "jax-interp convert")
    assert not guardrails.check_ready(prompts=False).allowed
    assert not guardrails.check_ready(prompts=False, frames=False).allowed


def test_another_folder_can_be_named(guarded, tmp_path):
    root = shutil.copytree(guarded, tmp_path / "converted")
    (root / TABLE["face_blur"].folder).rename(root / "mine")
    assert Guardrails.open(root, face_blur_dir="mine").check_ready().allowed
    assert "face_blur" in Guardrails.open(root, face_blur_dir="other").check_ready().reason
