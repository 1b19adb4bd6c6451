"""The package's functions: those of the page about Python, and what each hands on."""

import re
from pathlib import Path

import pytest

import convert
from jax_interp.errors import CheckpointError, UsageError
from tests import golden

PAGE = Path(__file__).parents[2] / "docs/python.md"


@pytest.mark.slow
def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    [example] = re.findall(r"```python\n(import convert\n.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "checkpoints").symlink_to(golden.CHECKPOINTS)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3
    assert all(line.endswith(" parameters complete") for line in shown)
    assert list((tmp_path / "exported").rglob("*.safetensors"))


@pytest.mark.slow
def test_a_type_and_a_folder_may_be_texts_or_paths(converted, tmp_path):
    [found] = convert.inspect(str(next(path for path in converted.iterdir() if "Tokenize1" in path.name)))
    assert found.faults == ()
    [written] = convert.export(str(converted), tmp_path / "exported", components=["tokenizer"])
    assert written.is_relative_to(tmp_path / "exported")
    [back] = convert.convert(tmp_path / "exported", str(tmp_path / "back"), components=["tokenizer"], md5="skip")
    assert convert.inspect(back)[0].parameters == found.parameters


@pytest.mark.slow
def test_progress_hears_of_every_byte(tmp_path):
    from contextlib import contextmanager

    told: dict[str, list[int]] = {}

    @contextmanager
    def progress(label, total):
        told[label] = []
        yield told[label].append

    convert.convert(golden.CHECKPOINTS, tmp_path / "converted", components=["tokenizer"], progress=progress)
    assert any(sum(done) > 0 for done in told.values())


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(UsageError, match="unet"):
        convert.convert(golden.CHECKPOINTS, tmp_path / "converted", components=["unet"])
    with pytest.raises(CheckpointError):
        convert.inspect(tmp_path / "absent")
    with pytest.raises(UsageError, match="--components: unknown unet"):
        convert.download(tmp_path, components=["unet"])
