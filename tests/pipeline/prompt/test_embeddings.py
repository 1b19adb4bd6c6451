"""Embeddings on disk: what goes in comes out, and damage is noticed."""

import errno
import logging
import os
import re
import resource
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import save_file

from jax_interp.errors import CheckpointError, JaxInterpError, UsageError
from jax_interp.pipeline.prompt.embeddings import (
    Embedding,
    EmbeddingCache,
    default_folder,
    load_embeddings,
    save_embeddings,
)


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


@pytest.fixture
def embedding(rng):
    return Embedding(rng.standard_normal((5, 4)).astype(np.float32), num_tokens=5)


def only_file(cache):
    (path,) = [path for path in cache.folder.rglob("*") if path.is_file()]
    return path


def test_padded_rows_are_zero(embedding):
    padded = embedding.padded()
    assert padded.shape == (512, 4)
    np.testing.assert_array_equal(padded[:5], embedding.rows)
    assert not padded[5:].any()


def test_cache_returns_what_it_was_given(cache, embedding):
    assert cache.get("network", "rain") is None
    cache.put("network", "rain", embedding)
    kept = cache.get("network", "rain")
    np.testing.assert_array_equal(kept.rows, embedding.rows)
    assert kept.num_tokens == 5


def test_cache_keeps_networks_and_texts_apart(cache, embedding):
    cache.put("network", "rain", embedding)
    assert cache.get("other", "rain") is None
    assert cache.get("network", "rain ") is None
    assert cache.get("network\0", "rain") is None


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def empty(path):
    path.write_bytes(b"")


def flip_a_value(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_the_token_count(path):
    content = path.read_bytes()
    assert b'"tokens":"5"' in content
    path.write_bytes(content.replace(b'"tokens":"5"', b'"tokens":"6"'))


def another_file(path):
    save_file({"x": np.zeros(3, np.float32)}, path)


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [truncate, empty, flip_a_value, change_the_token_count, another_file, a_folder], ids=lambda f: f.__name__
)
def test_damaged_entry_is_none_and_said(cache, embedding, damage, caplog):
    cache.put("network", "rain", embedding)
    damage(path := only_file(cache))
    with caplog.at_level(logging.WARNING, "jax_interp"):
        assert cache.get("network", "rain") is None
    assert str(path) in caplog.text
    assert "damaged" in caplog.text


def test_damaged_entry_is_replaced(cache, embedding):
    cache.put("network", "rain", embedding)
    truncate(only_file(cache))
    cache.put("network", "rain", embedding)
    np.testing.assert_array_equal(cache.get("network", "rain").rows, embedding.rows)


def test_folder_that_cannot_be_written_costs_a_warning(tmp_path, embedding, caplog):
    (tmp_path / "file").write_text("")
    cache = EmbeddingCache(tmp_path / "file" / "cache")
    cache.put("network", "rain", embedding)
    assert "cannot be written" in caplog.text
    assert cache.get("network", "rain") is None


def test_folders_and_files_are_the_users_alone(tmp_path, embedding):
    before = os.umask(0)
    try:
        cache = EmbeddingCache(tmp_path / "a" / "cache")
        cache.put("network", "rain", embedding)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (cache.folder, *cache.folder.iterdir(), cache.folder.parent)}
    assert modes == {0o700}
    assert only_file(cache).stat().st_mode & 0o777 == 0o600


def open_to_all(folder):
    folder.chmod(0o777)


def open_to_its_group(folder):
    folder.chmod(0o770)


def in_a_folder_that_is_open_to_all(folder):
    folder.parent.chmod(0o777)


def behind_a_link_in_an_open_folder(folder):
    shared = folder.parent / "shared"
    shared.mkdir()
    folder.rename(folder.parent / "mine")
    (shared / "link").symlink_to(folder.parent / "mine")
    folder.symlink_to(shared / "link")
    shared.chmod(0o777)


@pytest.mark.parametrize(
    "change",
    [open_to_all, open_to_its_group, in_a_folder_that_is_open_to_all, behind_a_link_in_an_open_folder],
    ids=lambda f: f.__name__,
)
def test_what_others_could_have_put_there_is_not_used(cache, embedding, change, caplog):
    cache.put("network", "rain", embedding)
    assert cache.get("network", "rain") is not None
    change(cache.folder)
    later = EmbeddingCache(cache.folder)
    for _ in range(3):
        assert later.get("network", "rain") is None
        later.put("network", "snow", embedding)
    assert len([path for path in cache.folder.rglob("*") if path.is_file()]) == 1
    [record] = caplog.records
    assert "cannot be written or trusted" in record.getMessage()
    assert "XDG_CACHE_HOME" in record.getMessage()


def test_without_a_home_nothing_is_kept(embedding, monkeypatch, caplog, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", "home")
    cache = EmbeddingCache()
    cache.put("network", "rain", embedding)
    assert cache.get("network", "rain") is None
    assert len(caplog.records) == 1
    assert "no home folder is known" in caplog.text
    assert list(tmp_path.iterdir()) == []


def full_while_writing(monkeypatch):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, old)


def full_in_the_end(monkeypatch):
    """As network file systems say it."""

    def fail(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    return monkeypatch.undo


@pytest.mark.parametrize(
    ("fill", "reason"),
    [(full_while_writing, "File too large"), (full_in_the_end, "No space left on device")],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_full_disk_costs_a_warning_and_leaves_nothing_behind(cache, rng, monkeypatch, caplog, fill, reason):
    embedding = Embedding(rng.standard_normal((512, 64)).astype(np.float32), num_tokens=512)
    make_room = fill(monkeypatch)
    try:
        cache.put("network", "rain", embedding)
    finally:
        make_room()
    [record] = caplog.records
    assert re.fullmatch(
        rf".*/[0-9a-f]{{64}}\.safetensors: cannot be written \({reason}\); [0-9.]+ GB are free in .*/[0-9a-f]{{2}}:"
        " make room there, or choose another place; until then this text is encoded anew each time",
        record.getMessage(),
    )
    assert not [path for path in cache.folder.rglob("*") if path.is_file()]
    assert cache.get("network", "rain") is None
    cache.put("network", "rain", embedding)
    np.testing.assert_array_equal(cache.get("network", "rain").rows, embedding.rows)


def test_writers_and_readers_at_once(cache, rng):
    texts = [f"text {index % 3}" for index in range(24)]
    rows = rng.standard_normal((512, 64)).astype(np.float32)

    def write_and_read(text):
        cache.put("network", text, Embedding(rows, 512))
        return cache.get("network", text)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(write_and_read, texts))
    assert all(np.array_equal(result.rows, rows) for result in results)
    assert len([path for path in cache.folder.rglob("*") if path.is_file()]) == 3


def test_default_folder_follows_the_users_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "jax-interp" / "embeddings"
    assert EmbeddingCache().folder == default_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "jax-interp" / "embeddings"


def test_file_returns_texts_and_rows_without_padding(tmp_path, rng):
    embeddings = {
        text: rng.standard_normal((3 + i, 4)).astype(np.float32) for i, text in enumerate(["rain", "", "ünï"])
    }
    padded = {text: Embedding(rows, len(rows)).padded() for text, rows in embeddings.items()}
    save_embeddings(tmp_path / "texts.safetensors", padded)
    loaded = load_embeddings(tmp_path / "texts.safetensors")
    assert list(loaded) == list(embeddings)
    for text, rows in embeddings.items():
        np.testing.assert_array_equal(loaded[text], rows)
        assert loaded[text].dtype == np.float32


def test_file_is_replaced_whole(tmp_path):
    path = tmp_path / "texts.safetensors"
    save_embeddings(path, {"a": np.ones((1, 4))})
    save_embeddings(path, {"b": np.ones((2, 4))})
    assert list(load_embeddings(path)) == ["b"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ({}, "there are none"),
        ({"rain": np.ones(4)}, r"'rain' has shape \(4,\)"),
        ({"rain": np.ones((513, 4))}, r"'rain' has shape \(513, 4\)"),
        ({"rain": np.full((2, 4), np.nan)}, "finite"),
        ({"rain": np.ones((2, 4)), "snow": np.ones((2, 5))}, r"widths differ: \[4, 5\]"),
    ],
)
def test_saving_what_is_no_embedding(tmp_path, embeddings, message):
    with pytest.raises(UsageError, match=message):
        save_embeddings(tmp_path / "texts.safetensors", embeddings)
    assert not list(tmp_path.iterdir())


def test_saving_where_there_is_no_folder(tmp_path):
    with pytest.raises(JaxInterpError, match="cannot be written"):
        save_embeddings(tmp_path / "absent" / "texts.safetensors", {"rain": np.ones((1, 4))})


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_embeddings(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [(truncate, "damaged"), (empty, "damaged"), (another_file, "not a file of text embeddings"), (a_folder, "damaged")],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_loading_a_damaged_file(tmp_path, damage, message):
    path = tmp_path / "texts.safetensors"
    save_embeddings(path, {"rain": np.ones((1, 4))})
    damage(path)
    with pytest.raises(CheckpointError, match=message):
        load_embeddings(path)


def test_loading_rows_that_are_no_embedding(tmp_path):
    path = tmp_path / "texts.safetensors"
    metadata = {"format": "jax-interp text embeddings 1", "texts": '["rain"]'}
    save_file({"000000": np.ones((2, 2, 2), np.float32)}, path, metadata)
    with pytest.raises(CheckpointError, match="'rain' has shape"):
        load_embeddings(path)
