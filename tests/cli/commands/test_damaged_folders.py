"""Converted folders that are damaged: every command names the file and what to do, none shows a traceback."""

import json
import shutil

import pytest

from jax_interp.errors import Blocked, CheckpointError
from jax_interp.runtime.checkpoint.converted import open_component
from tests import golden
from tests.commands import jax_interp
from tests.convert.checkpoints import DIT, T5, TOKENIZER
from tests.damages import (
    FILE_DAMAGES,
    HOSTILE,
    TEXT_DAMAGES,
    WRONG_TYPES,
    WRONG_VALUES,
    changed,
    keys_of,
    objects_of,
    refuse_reading,
    with_more,
    without,
)

DAMAGES = FILE_DAMAGES | TEXT_DAMAGES
DESCRIPTIONS = ("config.json", "manifest.json")
OPTIONAL = {"md5", "published_md5", "settings"}
"""Keys of the manifest under which there is a text or null."""


@pytest.fixture
def folder(converted, tmp_path):
    """The golden networks, converted, to be spoilt; files are shared until they are replaced."""
    return shutil.copytree(converted, tmp_path / "converted")


def commands(folder, out):
    """The arguments of every command that reads a converted folder."""
    size = ("--height", 32, "--width", 32)
    generated = ("--input", golden.CLIP, "--num-frame-pairs", 1, "--num-steps", 1, "--video-save-folder", out / "video")
    return {
        "inspect": (folder,),
        "memory": ("--checkpoint-dir", folder, "--disable-guardrail", *size),
        "export": ("--converted-dir", folder, "--output-dir", out / "exported"),
        "convert": ("--checkpoint-dir", golden.CHECKPOINTS, "--output-dir", folder, "--no-check-md5"),
        "generate": ("--checkpoint-dir", folder, "--disable-guardrail", "--no-embedding-cache", *size, *generated),
    }


def one_quick(first, *others):
    """Parameters of which the first belongs to the quick tests, and the others to the slow ones."""
    return [first, *(pytest.param(each, marks=pytest.mark.slow) for each in others)]


def one_in_ci(first, *others):
    """Parameters of which CI takes the first alone."""
    return [first, *(pytest.param(each, marks=(pytest.mark.slow, pytest.mark.thorough)) for each in others)]


def check_refused(folder, path, out, name):
    """Run a command; it must name `path` (or its folder, if that tells what it lacks) and end with the right code."""
    outcome = jax_interp(name, *commands(folder, out)[name])
    assert "Traceback" not in outcome.output
    assert "unexpected" not in outcome.output
    assert "\x1b" not in outcome.output
    if name == "inspect" and outcome.code == 0:
        assert "NOT USABLE" in outcome.output
    else:
        assert outcome.code == CheckpointError.exit_code, outcome.output
    assert path.name in outcome.output
    assert "convert it again" in outcome.output or "jax-interp convert" in outcome.output
    assert not (out / "video").exists()
    assert not (out / "exported").exists()


@pytest.mark.parametrize("name", ["memory", "export", "convert", "generate", "inspect"])
@pytest.mark.parametrize("damage", one_in_ci("half", "missing", "folder", "broken link", "no entries", "nested", "NaN"))
@pytest.mark.parametrize("file", one_quick(*DESCRIPTIONS))
@pytest.mark.timeout(120)
def test_a_damaged_description_is_named_by_every_command(folder, tmp_path, name, damage, file):
    path = folder / T5 / file
    DAMAGES[damage](path)
    check_refused(folder, path, tmp_path, name)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", ["memory", "export", "convert", "generate", "inspect"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [f"{network}/{file}" for network in (DIT, TOKENIZER, T5) for file in DESCRIPTIONS])
@pytest.mark.timeout(120)
def test_every_damage_is_named_by_every_command(folder, tmp_path, name, damage, file):
    DAMAGES[damage](folder / file)
    check_refused(folder, folder / file, tmp_path, name)


def refusal(path):
    """What opening the network in which `path` lies says, if it does not go well."""
    try:
        open_component(path.parent)
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("network", [DIT, TOKENIZER, T5])
@pytest.mark.parametrize("file", DESCRIPTIONS)
def test_every_damage_is_named_where_a_network_is_opened(folder, network, file):
    path = folder / network / file
    whole = path.read_bytes()
    for name, damage in DAMAGES.items():
        damage(path)
        said = refusal(path)
        assert path.name in said or f"{path.parent}: " in said, name
        assert "convert it again" in said or "jax-interp convert" in said, name
        _put_back(path, whole)
    assert refusal(path) == ""


def _put_back(path, content):
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("network", [DIT, T5])
@pytest.mark.parametrize("file", DESCRIPTIONS)
def test_every_key_has_one_type(folder, network, file):
    """Of every key: values of other types are refused with the key's name, so is its lack, and so is one more."""
    path = folder / network / file
    values = json.loads(path.read_text())
    for at in keys_of(values):
        key = str(next(step for step in reversed(at) if isinstance(step, str)))
        here = _at(values, at)
        for wrong in WRONG_TYPES:
            fits = type(wrong) is type(here) or (isinstance(wrong, str | None) and OPTIONAL & {*map(str, at)})
            path.write_text(json.dumps(changed(values, at, wrong)))
            said = refusal(path)
            assert fits or (said and path.name in said and key in said), (at, wrong, said)
        path.write_text(json.dumps(without(values, at)))
        said = refusal(path)
        if said:
            assert network in said
        else:  # one of several entries of a list or of a table, or what not every folder says
            assert file == "manifest.json"
            assert at[0] in ("sources", "params", "files") or at == ("settings", "type")
    for at in objects_of(values):
        path.write_text(json.dumps(with_more(values, at)))
        assert "more" in refusal(path), at


@pytest.mark.slow
def test_no_value_is_too_large_too_small_or_hostile(folder, tmp_path):
    """Whatever a key of a description says, opening the network ends as foreseen, and printing it sends no escape."""
    for file in DESCRIPTIONS:
        path = folder / T5 / file
        values = json.loads(path.read_text())
        for at in keys_of(values):
            for value in WRONG_VALUES:
                path.write_text(json.dumps(changed(values, at, value)))
                said = refusal(path)
                assert not said or T5 in said
                if isinstance(_at(values, at), int) and at[-1] != "modified_ns":
                    assert said or type(value) is int, (at, value)
            path.write_text(json.dumps(changed(values, at, HOSTILE)))
            outcome = jax_interp("inspect", folder / T5)
            assert "\x1b" not in outcome.output, at
            assert "\u202e" not in outcome.output, at
        path.write_text(json.dumps(values))


@pytest.mark.slow
@pytest.mark.parametrize("file", DESCRIPTIONS)
def test_a_description_that_is_cut_anywhere_is_refused(folder, file):
    path = folder / T5 / file
    content = path.read_bytes().rstrip()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert path.name in refusal(path), length


def test_several_offences_are_named_at_once(folder):
    path = folder / T5 / "config.json"
    values = json.loads(path.read_text())
    values["config"] |= {"width": "wide", "num_layers": 0, "depth": 3}
    del values["config"]["num_heads"]
    path.write_text(json.dumps(values))
    said = refusal(path)
    for text in (
        "lacks num_heads",
        "width is 'wide'",
        "num_layers is 0, expected a whole number from 1",
        "depth is not",
    ):
        assert text in said


def test_files_of_the_manifest_stay_inside(folder):
    path = folder / T5 / "manifest.json"
    values = json.loads(path.read_text())
    for name in ("../../../etc/passwd", "/etc/passwd", "a/../../b", "", HOSTILE):
        path.write_text(json.dumps(values | {"files": values["files"] | {name: 1}}))
        assert f"files has {name!r}, which is not in the folder" in refusal(path)


def test_messages_have_no_names_that_do_not_print(folder):
    path = folder / T5 / "manifest.json"
    values = json.loads(path.read_text())
    [stored, *_] = values["params"].values()
    path.write_text(json.dumps(values | {"params": values["params"] | {HOSTILE: stored}}))
    assert f"params has {HOSTILE!r}, which is no path" in refusal(path)
    path.write_text(json.dumps(values | {HOSTILE: 1}))
    assert f"{HOSTILE!r} is not known to this version" in refusal(path)


STORED = ("params/_METADATA", "params/embedding/zarr.json", "params/embedding/c/0/0", "tokenizer/tokenizer.json")


def same_length(path):
    """A damage that the length does not tell."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(b"{" + bytes(len(content) - 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory", "export", "convert", "generate"])
@pytest.mark.parametrize("damage", one_in_ci("cut", "missing", "folder", "broken link"))
@pytest.mark.parametrize("file", one_quick(*STORED))
def test_other_files_are_named_by_every_command(folder, tmp_path, name, damage, file):
    path = folder / T5 / file
    FILE_DAMAGES[damage](path)
    check_refused(folder, path, tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "network", "file"),
    [
        ("export", T5, "params/final_norm.scale/zarr.json"),
        ("generate", T5, "params/final_norm.scale/zarr.json"),
        ("generate", TOKENIZER, "params/_METADATA"),
    ],
)
def test_damage_of_the_same_length_is_told_when_it_is_read(folder, tmp_path, name, network, file):
    same_length(folder / network / file)
    prompt = ("--guidance", 0, "--prompt", "rain") if name == "generate" else ()
    outcome = jax_interp(name, *commands(folder, tmp_path)[name], *prompt)
    assert outcome.code == CheckpointError.exit_code, outcome.output
    assert f"{network}/params: cannot be read" in outcome.output
    assert "Traceback" not in outcome.output
    assert not (tmp_path / "exported" / network).exists()
    assert not (tmp_path / "video" / "output.mp4").exists()


@pytest.mark.slow
def test_a_damaged_tokenizer_of_the_same_length(folder, tmp_path):
    same_length(folder / T5 / "tokenizer" / "tokenizer.json")
    arguments = commands(folder, tmp_path)["generate"]
    outcome = jax_interp("generate", *arguments, "--guidance", 0, "--prompt", "rain")
    assert outcome.code == CheckpointError.exit_code, outcome.output
    assert "tokenizer.json: damaged tokenizer" in outcome.output


@pytest.mark.parametrize("file", DESCRIPTIONS)
def test_what_may_not_be_read_is_named(folder, tmp_path, monkeypatch, file):
    path = folder / T5 / file
    refuse_reading(monkeypatch, path)
    check_refused(folder, path, tmp_path, "memory")


@pytest.mark.slow
@pytest.mark.parametrize("file", DESCRIPTIONS)
@pytest.mark.parametrize("damage", ["missing", "half", "no entries", "nested"])
def test_a_damaged_guardrail_blocks_and_is_named(guarded, tmp_path, file, damage):
    root = shutil.copytree(guarded, tmp_path / "guarded")
    path = next(root.rglob("face_blur_filter")) / file
    DAMAGES[damage](path)
    clip = golden.CLIP
    outcome = jax_interp("check", "--video", clip, "--checkpoint-dir", root)
    assert outcome.code in (Blocked.exit_code, CheckpointError.exit_code), outcome.output
    assert file in outcome.output
    assert "Traceback" not in outcome.output


def test_doctor_looks_at_the_machine_alone(folder, monkeypatch):
    DAMAGES["half"](folder / T5 / "config.json")
    monkeypatch.chdir(folder)
    assert jax_interp("doctor").code == 0


def _at(values, at):
    for step in at:
        values = values[step]
    return values
