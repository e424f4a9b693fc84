"""Names of what is being written: none that another process writes to, and none that a dead one has for ever.

Whoever writes a file or a folder has its OS lock. Where there are no such locks, all take the usual name.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runyoro_ssl.disk.drafts import AS_IT_IS, os_lock
from runyoro_ssl.disk.whereabouts import has_name

TEMPORARY = ".tmp-"


def unfinished(final: Path) -> Path:
    """Where something is written, usually, before it has its name."""
    return final.with_name(f"{TEMPORARY}{final.name}")


@contextmanager
def own_file(final: Path) -> Iterator[Path]:
    """An empty file beside `final` that nobody else writes. When the block ends it goes, unless it was renamed."""
    temporary, file = _first_free(final, _open_file)
    try:
        os.ftruncate(file, 0)  # what a dead process left
        yield temporary
    finally:
        with suppress(OSError):
            if has_name(file, temporary):
                temporary.unlink()
        os.close(file)


@contextmanager
def own_folder(final: Path) -> Iterator[Path]:
    """An empty folder beside `final` in which nobody else writes; it goes as `own_file`'s."""
    temporary, folder = _first_free(final, _open_folder)
    try:
        for path in temporary.iterdir():  # what a dead process left
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        yield temporary
    finally:
        with suppress(OSError):
            if has_name(folder, temporary):
                shutil.rmtree(temporary)
        os.close(folder)


def is_written(path: Path) -> bool:
    """Whether a living process writes a file or folder under this name."""
    try:
        opened = os.open(path, AS_IT_IS)
    except OSError:  # a link, or not ours to read
        return False
    try:
        return os_lock(opened) is False
    finally:
        os.close(opened)


def _first_free(final: Path, open_at: Callable[[Path], int]) -> tuple[Path, int]:
    """The usual name, or where another process has it, or something foreign, one of its own; opened, with its lock."""
    with suppress(OSError):
        opened = open_at(usual := unfinished(final))
        if os_lock(opened) is not False and has_name(opened, usual):
            return usual, opened
        os.close(opened)
    own = final.with_name(f"{TEMPORARY}{uuid.uuid4().hex[:8]}-{final.name}")
    opened = open_at(own)
    os_lock(opened)
    return own, opened


def _open_file(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileExistsError(errno.EEXIST, "no file is there", str(path))
    return file


def _open_folder(path: Path) -> int:
    path.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
