"""Nothing of a blocked clip stays, and nothing of others goes."""

import logging

import numpy as np
import pytest

from jax_interp.pipeline.jobs.blocked import remove_results
from jax_interp.pipeline.jobs.pair_store import PairStore

PROMPT = "a street"


@pytest.fixture
def run(tmp_path):
    """A run that has kept a pair, and was killed while it gave its results their names: only the frames have theirs."""
    folder = tmp_path / "out"
    folder.mkdir()
    video, frames = folder / "film.mp4", folder / "frames"
    for path in (video, folder / "film.json"):
        path.write_text("of an earlier run")
    store = PairStore(video, "a" * 12)
    store.save(0, np.zeros((2, 4, 4, 3), np.uint8))
    partials = {video: folder / "film.partial.mp4", frames: folder / "frames.partial"}
    partials[video].write_text("frames")
    partials[frames].mkdir()
    (partials[frames] / "00000.png").touch()
    store.note_results(partials)
    partials[frames].rename(frames)
    return store, partials


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_of_the_run_goes_and_nothing_of_an_earlier_one(run, caplog):
    store, partials = run
    folder = store.folder.parent
    (folder / "film.txt").write_text("another prompt\n")
    (folder / "mine.txt").touch()
    remove_results(store, partials.values(), folder / "film.txt", PROMPT)
    assert files(folder) == ["film.json", "film.mp4", "film.txt", "mine.txt"]
    assert (folder / "film.mp4").read_text() == "of an earlier run"
    assert caplog.records == []


def test_results_that_have_their_names_go_with_the_prompt(run):
    store, partials = run
    folder = store.folder.parent
    partials[folder / "film.mp4"].replace(folder / "film.mp4")
    (folder / "film.txt").write_text(f"{PROMPT}\n")
    remove_results(store, partials.values(), folder / "film.txt", PROMPT)
    assert files(folder) == ["film.json"]


def test_the_prompt_that_the_run_had_kept_is_the_one_that_goes(run):
    store, partials = run
    folder = store.folder.parent
    store.keep_prompt("written for it")
    (folder / "film.txt").write_text("written for it\n")
    remove_results(store, partials.values(), folder / "film.txt", "")
    assert "film.txt" not in files(folder)


def test_without_anything_there_nothing_happens(tmp_path, caplog):
    store = PairStore(tmp_path / "film.mp4", "a" * 12)
    (tmp_path / "film.txt").write_text(f"{PROMPT}\n")
    remove_results(store, [tmp_path / "film.partial.mp4"], tmp_path / "film.txt", PROMPT)
    assert files(tmp_path) == ["film.txt"]
    assert caplog.records == []


def test_what_cannot_be_removed_is_named(run, caplog, monkeypatch):
    store, partials = run
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    with caplog.at_level(logging.ERROR, "jax_interp"):
        remove_results(store, partials.values(), store.folder.parent / "film.txt", PROMPT)
    assert [record.args[0] for record in caplog.records] == [store.folder, store.folder.parent / "frames"]


def test_a_link_goes_and_not_where_it_leads(run, tmp_path):
    store, _ = run
    (tmp_path / "other").mkdir()
    link = tmp_path / "out" / "link"
    link.symlink_to(tmp_path / "other")
    remove_results(store, [link], tmp_path / "none.txt", PROMPT)
    assert not link.is_symlink()
    assert (tmp_path / "other").is_dir()
