"""Folders that only the user can write to, because what is in them is executed or trusted."""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_MAX_LINKS = 40
"""The number of symbolic links on the way to a folder that are followed, as in the kernel."""

_UNMAPPED = 65534
"""The owner that a user namespace shows for users whom it does not know: in containers, root of the host mostly."""

_ALL_USERS_MAPPED = "0 0 4294967295"
"""The content of `/proc/self/uid_map` outside of user namespaces."""


def user_cache_folder() -> Path:
    """Return `jax-interp` in the user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`); nothing is created.

    A relative path in the environment is ignored, as the XDG base directory specification demands: it would make a
    cache of whatever folder the program is started in.

    Raises:
        FileNotFoundError: the user has no home folder.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not root.is_absolute():
        root = _home() / ".cache"
    return root / "jax-interp"


def prepare_private_folder(folder: Path) -> None:
    """Create `folder` for the user alone (mode 0700), or check that nobody else can put anything there.

    It has to belong to the user or to root, and may be writable neither for its group nor for everybody. No folder on
    the way there, symbolic links followed, may let others put another one in its place: those belong to the user or to
    root, and where others may write, only the owner of an entry can rename it (the sticky bit, as in /tmp). Of those on
    the way, the user's own group of one may have the right to write, which many distributions give it by default.

    Raises:
        OSError: it cannot be created, or others can write there; the message says who and where.
    """
    folder = folder.absolute()
    if not folder.exists():
        for place in _way_to(folder):
            _check_way(place)
        for place in reversed([folder, *folder.parents]):
            if not place.exists():
                place.mkdir(mode=0o700, exist_ok=True)
    *way, leaf = _way_to(folder)
    for place in way:
        _check_way(place)
    check_private_folder(leaf)


def check_private_folder(folder: Path) -> None:
    """Raise `OSError` if `folder`, which must not be a link, exists and others can put anything in it.

    The folders on the way there are not checked: in them others may be able to put another of the user's folders in
    its place.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if found.st_uid not in (os.geteuid(), 0):
        raise _refusal(folder, f"it belongs to {_user(found.st_uid)}, who may write there")
    if found.st_mode & stat.S_IWOTH:
        raise _refusal(folder, "everybody may write there")
    if found.st_mode & stat.S_IWGRP:
        raise _refusal(folder, f"the group {_group(found.st_gid)} may write there")


def _check_way(folder: Path) -> None:
    """Raise unless only the user and root decide which folder is found under a name in `folder`."""
    found = folder.stat()
    if not _is_trusted(found.st_uid):
        raise _refusal(folder, f"it belongs to {_user(found.st_uid)}, who may put another folder in the place of ours")
    if found.st_mode & stat.S_ISVTX:
        return
    if found.st_mode & stat.S_IWOTH:
        raise _refusal(folder, "everybody may put another folder in the place of ours")
    if found.st_mode & stat.S_IWGRP and not _is_group_of_one(folder, found.st_gid):
        raise _refusal(folder, f"the group {_group(found.st_gid)} may put another folder in the place of ours")


def _way_to(folder: Path) -> Iterator[Path]:
    """Yield every folder in which a part of the absolute path `folder` is looked up, links followed, and itself.

    For `/home/me/cache`, where `cache` is a link to `/scratch/x`: `/`, `/home`, `/home/me`, `/`, `/scratch` and
    `/scratch/x`.
    """
    here, *waiting = Path(folder.anchor), *reversed(folder.parts[1:])
    links = 0
    while waiting:
        yield here
        step = here / waiting.pop()
        if step.is_symlink():
            links += 1
            owner = step.lstat().st_uid
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
            if not _is_trusted(owner):
                raise _refusal(step, f"this link belongs to {_user(owner)}, who may let it point elsewhere")
            target = step.readlink()
            if target.is_absolute():
                here = Path(target.anchor)
            waiting += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        elif step.exists():
            here = here.parent if step.name == ".." else step
        else:
            return
    yield here


def _is_trusted(uid: int) -> bool:
    """Tell whether that user may own what leads to a private folder."""
    return uid in (os.geteuid(), 0) or (uid == _UNMAPPED and _in_user_namespace())


@cache
def _in_user_namespace() -> bool:
    try:
        return " ".join(Path("/proc/self/uid_map").read_text().split()) != _ALL_USERS_MAPPED
    except OSError:
        return False


def _is_group_of_one(folder: Path, gid: int) -> bool:
    """Tell whether the group is the user's own, which has the user's name and no other members.

    Where there is an access list, the group's rights are the most that anybody on that list has.
    """
    if "system.posix_acl_access" in os.listxattr(folder):
        return False
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _home() -> Path:
    try:
        home = Path(os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        home = Path()
    if not home.is_absolute():
        raise FileNotFoundError(
            errno.ENOENT, "no home folder is known, and XDG_CACHE_HOME is not set to an absolute path"
        )
    return home


def _refusal(folder: Path, reason: str) -> PermissionError:
    return PermissionError(errno.EACCES, f"{reason}, and what lies there would be believed", str(folder))


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
