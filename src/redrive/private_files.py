"""Files of ours on the host: for their owner only, and never reached by a symbolic link.

They hold whole events and states. So each is made with mode 0600, one that others could read is
closed to them, and a link that somebody has put in its place is refused. [P15]
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

import structlog

__all__ = ["check_private", "distrust", "make_private", "open_private", "warn_of_open_folder"]

log = structlog.get_logger("redrive.files")

_OWNER_ONLY = 0o600
_OTHERS = 0o077
_OTHERS_WRITE = 0o022
_warned: set[str] = set()


def open_private(path: Path, flags: int) -> int:
    """Open a file of ours, and make it for its owner only where `flags` make it.

    Raises:
        OSError: It is a link or no regular file, or cannot be opened.
    """
    check_private(path)
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _OWNER_ONLY)
    try:
        found = os.fstat(file)
        _check_kind(path, found.st_mode)
        if found.st_mode & _OTHERS:
            os.fchmod(file, _OWNER_ONLY)
    except BaseException:
        os.close(file)
        raise
    return file


def make_private(path: Path) -> None:
    """Make an empty file for its owner only; one that is there is closed to others, unopened.

    For files that SQLite opens: to close any other descriptor of such a file would take the locks
    that this process holds on it.

    Raises:
        OSError: It is a link or no regular file, or cannot be made.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(path, flags, _OWNER_ONLY))
    except FileExistsError:
        found = check_private(path)
        if found is None or not found.st_mode & _OTHERS:
            return
        if found.st_uid in (os.geteuid(), 0) or os.geteuid() == 0:
            path.chmod(_OWNER_ONLY)
        else:
            log.warning("file.open_to_others", file=str(path), mode=_mode(found.st_mode))


def check_private(path: Path) -> os.stat_result | None:
    """Look at a file without opening it; None: there is none.

    Raises:
        OSError: It is a link or no regular file.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    _check_kind(path, found.st_mode)
    return found


def warn_of_open_folder(path: Path) -> None:
    """Warn once if others can write to the folder that a file of ours is in.

    They could take the file away, or put another one in its place.
    """
    folder = path.absolute().parent
    try:
        mode = folder.stat().st_mode
    except OSError:
        return  # Opening the file fails as well, and says why.
    if mode & _OTHERS_WRITE and str(folder) not in _warned:
        _warned.add(str(folder))
        log.warning("file.folder_open_to_others", folder=str(folder), mode=_mode(mode))


def distrust(path: Path) -> str | None:
    """Say why a file that nobody has named is not to be believed; None: it is ours alone.

    It is, if it belongs to this user or to root, and nobody else can write to it. A link counts as
    what it leads to, if it belongs to one of them as well.

    Raises:
        OSError: It cannot be looked at.
    """
    for found in (path.lstat(), path.stat()):
        if found.st_uid not in (os.geteuid(), 0):
            return f"it belongs to the user {_user(found.st_uid)}"
    mode = path.stat().st_mode
    by_group = mode & stat.S_IWGRP and not _is_own_group(path.stat().st_gid)
    if mode & stat.S_IWOTH or by_group:
        return f"others can write to it (mode {_mode(mode)})"
    return None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_own_group(gid: int) -> bool:
    """Say whether a group is that of this user alone, as many systems make one for each."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and not group.gr_mem


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISLNK(mode):
        why = "it is a symbolic link, and none is followed here: name the file that it leads to"
        raise OSError(errno.ELOOP, why, str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file: name one", str(path))


def _mode(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"
