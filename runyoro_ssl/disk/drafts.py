"""Drafts: records of owners under names of their own, with their OS locks, before one of them becomes the lock file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from runyoro_ssl.disk.owner import Owner
from runyoro_ssl.disk.whereabouts import has_name

NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}
"""Errors of file systems without OS locks; NFS has none for a file that may only be read."""
AS_IT_IS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""No link is followed, and no pipe waited for."""


def write_draft(lock: Path, owner: Owner) -> tuple[Path, int]:
    """Write a draft beside a lock file, and give it open, with its OS lock; where it is swept before, another one."""
    while True:
        draft = lock.with_name(f".{lock.name}-{uuid.uuid4().hex}")
        file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            if os_lock(file) is not False and has_name(file, draft):
                os.write(file, owner.record(0))
                os.fsync(file)
                return draft, file
        except BaseException:
            os.close(file)
            draft.unlink(missing_ok=True)
            raise
        os.close(file)


def sweep_drafts(lock: Path, owner: Owner) -> None:
    """Remove what those on this machine left who were killed before they came to more. Only for who has the lock."""
    for path in lock.parent.glob(f".{lock.name}-*"):
        with suppress(OSError):
            file = os.open(path, AS_IT_IS)
            try:
                if _is_of(owner.host, file) and os_lock(file) is True:  # nobody else has it
                    path.unlink()
            finally:
                os.close(file)


def _is_of(host: str, file: int) -> bool:
    """Whether a file is a draft of this host, or was to become one."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return False
    content = os.pread(file, 4096, 0)
    found = Owner.read(content)
    return not content or (found is not None and found.host == host)


def os_lock(file: int, kind: int = fcntl.LOCK_EX) -> bool | None:
    """Take the OS lock of an open file, if it is free. None: this file system has no such locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter on SMB
        return False
    except OSError as error:
        if error.errno in NO_FLOCK:
            return None
        raise
    return True
