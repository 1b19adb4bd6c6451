"""Who can write where a private folder lies: every way in which somebody else could is refused."""

import os
import re
import stat
import types

import pytest

from jax_interp.files import private_folder
from jax_interp.files.private_folder import prepare_private_folder, user_cache_folder

OTHER = 54321
"""A user who is nobody here."""


@pytest.fixture
def owners(monkeypatch):
    """Pretends that files belong to others: `owners[path] = uid`."""
    changed = {}

    def shown(original):
        def stat_as(self, **options):
            found = original(self, **options)
            if self not in changed:
                return found
            return types.SimpleNamespace(st_uid=changed[self], st_gid=found.st_gid, st_mode=found.st_mode)

        return stat_as

    path_type = type(private_folder.Path())
    for name in ("stat", "lstat"):
        monkeypatch.setattr(path_type, name, shown(getattr(path_type, name)))
    return changed


@pytest.fixture
def group(monkeypatch):
    """The user `me`, whose group has the user's name and number; `group(...)` gives it other members, or another."""

    def of(*members, name="me", gid=None):
        gid = os.getegid() if gid is None else gid
        monkeypatch.setattr(private_folder.pwd, "getpwuid", lambda uid: types.SimpleNamespace(pw_name="me", pw_gid=gid))
        monkeypatch.setattr(
            private_folder.grp, "getgrgid", lambda gid: types.SimpleNamespace(gr_name=name, gr_mem=list(members))
        )

    of()
    return of


def refusal(folder):
    with pytest.raises(OSError, match=r".") as raised:
        prepare_private_folder(folder)
    return f"{raised.value.strerror} {raised.value.filename}"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o000])
def test_it_is_made_with_all_that_is_missing_for_the_user_alone(tmp_path, umask):
    before = os.umask(umask)
    try:
        prepare_private_folder(tmp_path / "a" / "b" / "cache")
    finally:
        os.umask(before)
    made = (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "cache")
    assert [mode(path) for path in made] == [0o700] * 3
    prepare_private_folder(tmp_path / "a" / "b" / "cache")


@pytest.mark.parametrize(
    ("rights", "who"),
    [(0o777, "everybody"), (0o702, "everybody"), (0o1777, "everybody"), (0o770, "the group"), (0o775, "the group")],
    ids=lambda value: oct(value) if isinstance(value, int) else value,
)
def test_a_folder_that_others_can_write_to_is_refused(tmp_path, rights, who):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(rights)
    assert re.match(rf"{who}.* may write there, and what lies there would be believed {folder}", refusal(folder))


@pytest.mark.parametrize("rights", [0o700, 0o755, 0o750, 0o500])
def test_a_folder_that_others_can_read_is_not(tmp_path, rights):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(rights)
    prepare_private_folder(folder)


def test_a_folder_of_somebody_else_is_refused_and_one_of_root_is_not(tmp_path, owners):
    folder = tmp_path / "cache"
    folder.mkdir()
    owners[folder] = OTHER
    assert f"it belongs to user {OTHER}, who may write there" in refusal(folder)
    owners[folder] = 0
    prepare_private_folder(folder)


def test_a_folder_on_the_way_where_everybody_may_rename_is_refused(tmp_path):
    shared = tmp_path / "shared"
    folder = shared / "mine" / "cache"
    folder.mkdir(parents=True)
    shared.chmod(0o777)
    assert "everybody may put another folder in the place of ours" in refusal(folder)
    assert "everybody" in refusal(shared / "absent" / "cache")
    assert not (shared / "absent").exists()
    shared.chmod(0o1777)  # as /tmp: only its owner renames an entry
    prepare_private_folder(folder)


def test_a_folder_on_the_way_that_belongs_to_somebody_else_is_refused(tmp_path, owners):
    owners[tmp_path] = OTHER
    assert f"{tmp_path}" in refusal(tmp_path / "cache")
    tmp_path.chmod(0o1777)  # the owner of such a folder may rename in it all the same
    assert f"user {OTHER}" in refusal(tmp_path / "cache")


def test_the_users_own_group_may_write_on_the_way(tmp_path, group, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o775)
    prepare_private_folder(home / "cache")
    for members, other in (((), {"name": "staff"}), (("me", "you"), {}), ((), {"gid": os.getegid() + 1})):
        group(*members, **other)
        assert "may put another folder in the place of ours" in refusal(home / "cache")
    group("me")
    prepare_private_folder(home / "cache")
    monkeypatch.setattr(private_folder.os, "listxattr", lambda path: ["system.posix_acl_access"])
    assert "the group me" in refusal(home / "cache")


def test_links_are_followed_to_where_they_lead(tmp_path):
    open_to_all = tmp_path / "open"
    (open_to_all / "inner").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to("open/inner")
    prepare_private_folder(link / "cache")
    open_to_all.chmod(0o777)
    assert str(open_to_all) in refusal(link / "cache")


def test_a_link_in_a_folder_of_everybody_is_refused_wherever_it_leads(tmp_path):
    (tmp_path / "home").mkdir()
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "link").symlink_to(tmp_path / "home")
    (tmp_path / "here").symlink_to(shared / "link")
    shared.chmod(0o777)
    for folder in (shared / "link" / "cache", tmp_path / "here" / "cache"):
        assert str(shared) in refusal(folder)


def test_a_link_of_somebody_else_is_refused(tmp_path, owners):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(tmp_path)
    prepare_private_folder(shared / "link" / "cache")
    owners[shared / "link"] = OTHER
    assert "may let it point elsewhere" in refusal(shared / "link" / "cache")


def test_links_in_a_circle_and_paths_with_dots_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "oo many" in refusal(tmp_path / "a" / "cache")
    (tmp_path / "c").mkdir()
    (tmp_path / "d").symlink_to("./c/../c")
    prepare_private_folder(tmp_path / "d" / ".." / "c" / "cache")
    assert mode(tmp_path / "c" / "cache") == 0o700


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "ot a directory" in refusal(tmp_path / "file")
    assert "ot a directory" in refusal(tmp_path / "file" / "cache")


def test_the_users_of_a_container_may_be_unknown_on_the_way(tmp_path, owners, monkeypatch):
    owners[tmp_path] = private_folder._UNMAPPED
    for inside in (True, False):
        monkeypatch.setattr(private_folder, "_in_user_namespace", lambda inside=inside: inside)
        if inside:
            prepare_private_folder(tmp_path / "cache")
        else:
            assert "it belongs to" in refusal(tmp_path / "cache")


def test_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert user_cache_folder() == tmp_path / "x" / "jax-interp"
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", ".", "cache", "~/cache", "../x"):  # relative: a cache of whatever folder one stands in
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert user_cache_folder() == tmp_path / ".cache" / "jax-interp"
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_there_is_no_cache_folder(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "relative/home")
    with pytest.raises(FileNotFoundError, match="no home folder is known"):
        user_cache_folder()
    monkeypatch.delenv("HOME")
    found = types.SimpleNamespace(pw_dir="/home/me")
    monkeypatch.setattr(private_folder.pwd, "getpwuid", lambda uid: found)
    assert str(user_cache_folder()) == "/home/me/.cache/jax-interp"

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(private_folder.pwd, "getpwuid", unknown)
    with pytest.raises(FileNotFoundError, match="XDG_CACHE_HOME"):
        user_cache_folder()
