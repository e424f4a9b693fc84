"""What a name in a folder stands for now: an open file, wherever its folder was renamed to; its content; its owner."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import sys
from contextlib import suppress
from pathlib import Path

MAX_PATH_BYTES = 1024
"""MAXPATHLEN of macOS."""


def path_of(file: int) -> Path | None:
    """The path of an open file, as the system knows it now; None where it does not tell. Perhaps nothing is there."""
    try:
        if sys.platform == "darwin":
            return Path(os.fsdecode(fcntl.fcntl(file, fcntl.F_GETPATH, bytes(MAX_PATH_BYTES)).split(b"\0")[0]))
        return Path(f"/proc/self/fd/{file}").readlink()
    except OSError:
        return None


def free_place_beside(folder: Path) -> Path:
    """The path of a folder that is not there yet, beside one that is no more: `NAME-rescued`, `NAME-rescued-2`."""
    folder = folder.absolute()
    names = (f"{folder.name}-rescued{number}" for number in ("", *(f"-{number}" for number in range(2, 1000))))
    return next(path for name in names if not (path := folder.with_name(name)).exists())


def open_as_allowed(path: Path) -> int | None:
    """Open what is at `path`, without waiting if it is a pipe: to write, or else to read; None: neither is allowed."""
    for mode in (os.O_RDWR, os.O_RDONLY):
        with suppress(PermissionError, IsADirectoryError):
            return os.open(path, mode | os.O_NONBLOCK)
    return None


def has_name(file: int, path: Path) -> bool:
    """Whether an open file is the one at `path`. Opens it, for only that makes NFS look."""
    try:
        there = os.open(path, os.O_RDONLY)
        try:
            return os.path.sameopenfile(there, file)
        finally:
            os.close(there)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
            return False
        raise


def read_record(path: Path) -> bytes | None:
    """The record at `path`; None if there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def belongs_to(path: Path) -> str:
    """Whose a file or folder is, as a remark; nothing where it is one's own, or that cannot be told."""
    try:
        owner = path.stat().st_uid
        return "" if owner == os.geteuid() else f"; it belongs to {pwd.getpwuid(owner).pw_name}"
    except (OSError, KeyError):
        return ""
