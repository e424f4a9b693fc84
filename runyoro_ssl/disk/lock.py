"""A lock by which one process at a time writes into a folder.

The lock file names its owner: the process that holds the OS lock (flock) on what has that name. The lock vanishes with
its process, so nothing that a kill leaves behind blocks. A file system shared between machines may not carry it from
one to the other; therefore the owner also changes the file at every beat, and what another machine left is taken over
only after it stayed the same for `PATIENCE` beats. No clocks and no file times are compared.

A record is written and locked under another name and then given its own: it is never seen half written or without its
lock, and whoever lost the name (file removed, or taken over while the machine slept) finds another inode there.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from runyoro_ssl.disk.drafts import os_lock, sweep_drafts, write_draft
from runyoro_ssl.disk.owner import Owner
from runyoro_ssl.disk.whereabouts import belongs_to, free_place_beside, has_name, open_as_allowed, path_of, read_record
from runyoro_ssl.errors import RunyoroError
from runyoro_ssl.logs import get_logger

log = get_logger()

BEAT_SEC = 10.0
PATIENCE = 2.5
"""Beats without a change after which an owner on another machine is taken for dead."""
SETTLE_SEC = 1.0
"""Two machines may take over at the same moment: after this time, the one that was replaced notices."""


@dataclass(frozen=True)
class Words:
    """What people are told about a lock.

    `command` holds it, to write `place`; `if_lost` is what to do when another process has taken it. `error` is what a
    refusal and a loss raise.
    """

    command: str
    place: Path
    if_lost: str
    error: type[RunyoroError]


class FolderLock:
    """Holds the folder of a lock file for one process, from `acquire` to `release`, or while entered."""

    def __init__(self, path: Path, words: Words, *, beat_sec: float = BEAT_SEC) -> None:
        self.path = path
        self._words = words
        self._beat_sec = beat_sec
        self._file: int | None = None
        self._ended = threading.Event()
        self._beats: threading.Thread | None = None
        self._made_folders: list[Path] = []

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Become the one writer; nothing if this already is. Makes the folder.

        Raises:
            RunyoroError: `words.error`: another process is writing there.
        """
        if self._file is not None:
            return
        folder, owner = self.path.parent, Owner.here()
        try:
            self._made_folders = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            draft, file = write_draft(self.path, owner)
        except PermissionError as error:
            raise self._words.error(
                f"{self._words.place}: nothing may be written there ({error.strerror}{belongs_to(folder)}); give "
                "yourself the right to, or give another --output-dir"
            ) from None
        try:
            while not self._put_in_place(draft, file, owner):
                pass
        except FileNotFoundError:  # whoever has the lock sweeps
            os.close(file)
            raise self._taken() from None
        except BaseException:
            os.close(file)
            raise
        finally:
            draft.unlink(missing_ok=True)
        sweep_drafts(self.path, owner)
        self._file, self._ended = file, threading.Event()
        self._beats = threading.Thread(target=self._beat, args=(owner, file, self._ended), daemon=True)
        self._beats.start()

    def is_held(self) -> bool:
        """Whether this process has the folder, still."""
        return self._file is not None and has_name(self._file, self.path)

    def check(self) -> None:
        """Make sure that the folder is still held, before anything is written.

        Raises:
            RunyoroError: `words.error`: it is not, and not taken again: one that ended since may have got further.
        """
        if self.is_held():
            return
        content, now = read_record(self.path), self.folder_now()
        if now is not None:
            what = f"it was renamed during the run, and is now {now}"
        elif content is None:
            what = f"{self.path.name} is gone: removed by hand, or by a run that took it over and has ended since"
        else:
            owner = Owner.read(content) or "its record is damaged"
            what = f"another `{self._words.command}` has taken it over ({owner})"
        raise self._words.error(
            f"{self._words.place}: {what}, perhaps while this machine slept; nothing was written there now. "
            f"{self._words.if_lost}"
        )

    def folder_now(self) -> Path | None:
        """Where the folder is, by the open lock file, whatever it was renamed to. None: not known, or it is no more."""
        path = None if self._file is None else path_of(self._file)
        if path is None or self._file is None:
            return None
        folder = path.parent  # its name may be that of the draft, which is no more
        return folder if has_name(self._file, folder / self.path.name) else None

    def refuge(self) -> Path | None:
        """Where to save what must not be lost, when `check` fails: the folder under its new name, or a new one beside.

        None: nowhere, for another process has the folder, and may have got further.
        """
        now = self.folder_now()
        return now if now is not None or read_record(self.path) is not None else free_place_beside(self.path.parent)

    def release(self) -> None:
        """Let others write; nothing if it is not held. Folders made for the lock and still empty go."""
        if self._file is None or self._beats is None:
            return
        self._ended.set()
        self._beats.join()
        # What cannot be removed has lost its OS lock and its beat: the next process takes it over.
        with suppress(OSError):
            if (folder := self.folder_now()) is not None:
                (folder / self.path.name).unlink()
            elif has_name(self._file, self.path):
                self.path.unlink()
        os.close(self._file)
        self._file = None
        with suppress(OSError):
            for made in self._made_folders:
                made.rmdir()

    def _put_in_place(self, draft: Path, file: int, owner: Owner) -> bool:
        """Give the draft its name. False: what is there has just changed, look again."""
        try:
            theirs = self._open_theirs()
        except FileNotFoundError:
            return self._create(draft, file)
        try:
            locked = os_lock(theirs)
            if locked is False:
                raise self._taken()
            if not has_name(theirs, self.path):
                return False
            content = os.pread(theirs, 4096, 0)
            found = Owner.read(content)
            same_kernel = found is not None and found.boot == owner.boot != ""
            if not (locked and same_kernel) and not self._is_still(content, found):
                return False
            self._replace(draft, found)
        finally:
            os.close(theirs)
        if not (locked and same_kernel):
            self._settle(file)
        log.warning("stale_lock_taken", path=str(self.path), **Owner.names(found))
        return True

    def _open_theirs(self) -> int:
        """Open the record that is there; another user's may only be read, which is enough to ask for its OS lock.

        Raises:
            RunyoroError: `words.error`: it may not even be read, or is no file.
        """
        file = open_as_allowed(self.path)
        if file is not None and stat.S_ISREG(os.fstat(file).st_mode):
            return file
        if file is not None:
            os.close(file)
            raise self._words.error(f"{self.path} is no file, as a lock is: remove it, and run again")
        raise self._words.error(
            f"{self.path} may not be read{belongs_to(self.path)}: whether its `{self._words.command}` is alive is not "
            "known. If nothing writes into this folder any more, the file may be removed: do so, and run again"
        )

    def _replace(self, draft: Path, found: Owner | None) -> None:
        """Put the draft in the place of a dead owner's record."""
        try:
            draft.replace(self.path)
        except PermissionError:
            raise self._words.error(
                f"{self.path} was left by a `{self._words.command}` that is dead ({found or 'its record is damaged'}), "
                f"and may not be replaced{belongs_to(self.path)}: the file may be removed; do so, or have it done, and "
                "run again"
            ) from None

    def _create(self, draft: Path, file: int) -> bool:
        """Give the draft a name that is free: no other machine can do it at the same moment. False: it was taken."""
        try:
            os.link(draft, self.path)
        except FileExistsError:
            return False
        except OSError:  # no hard links, e.g. on exFAT
            draft.rename(self.path)
            self._settle(file)
        return True

    def _is_still(self, content: bytes, found: Owner | None) -> bool:
        """Watch a record whose owner cannot be asked. False: it was removed.

        Raises:
            RunyoroError: It changed: its owner lives, or another process was quicker.
        """
        patience = PATIENCE * self._beat_sec
        log.warning(
            "lock_found",
            path=str(self.path),
            **Owner.names(found),
            now=f"watching it for {patience:g} s, for a sign that the run is alive",
        )
        end = time.monotonic() + patience
        while time.monotonic() < end:
            time.sleep(self._beat_sec / 10)
            now = read_record(self.path)
            if now is None:
                return False
            if now != content:
                raise self._taken()
        return True

    def _settle(self, file: int) -> None:
        time.sleep(min(SETTLE_SEC, self._beat_sec))
        if not has_name(file, self.path):
            raise self._taken()

    def _taken(self) -> RunyoroError:
        content = read_record(self.path)
        who = (Owner.read(content) if content else None) or "its record does not say which"
        return self._words.error(
            f"{self._words.place}: `{self._words.command}` is already writing here ({who}); wait for it, or stop it, "
            "or give another --output-dir"
        )

    def _beat(self, owner: Owner, file: int, ended: threading.Event) -> None:
        for beat in itertools.count(1):
            if ended.wait(self._beat_sec):
                return
            with suppress(OSError):  # a share that is away for a while, or a file that was replaced: `check` tells
                os.pwrite(file, owner.record(beat), 0)
                os.fsync(file)


def is_held(path: Path) -> bool:
    """Whether a process of this machine holds the lock file at `path`, as far as its file system can tell."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return os_lock(file, fcntl.LOCK_SH) is False
    finally:
        os.close(file)
