"""The files below a folder are counted without following links, and while others vanish."""

from pathlib import Path

from jax_interp.files.below import regular_files, size_below


def test_links_and_folders_are_not_counted(tmp_path):
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/a").write_bytes(b"123")
    (tmp_path / "folder/b").write_bytes(b"12345")
    (tmp_path / "outside").write_bytes(b"1" * 100)
    (tmp_path / "folder/link").symlink_to(tmp_path / "outside")
    (tmp_path / "folder/loop").symlink_to(tmp_path / "folder")
    assert sorted((path.name, found.st_size) for path, found in regular_files(tmp_path / "folder")) == [
        ("a", 3),
        ("b", 5),
    ]
    assert size_below(tmp_path / "folder") == 8
    assert size_below(tmp_path / "absent") == 0


def test_one_that_vanishes_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"123")
    monkeypatch.setattr(Path, "rglob", lambda folder, pattern: iter([folder / "a", folder / "gone"]))
    assert [path.name for path, _ in regular_files(tmp_path)] == ["a"]
