"""The store beside a dataset: what is done of it before it has its name, and what the next one can use."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from runyoro_ssl.dataset.layout import FINGERPRINT
from runyoro_ssl.disk.durable import flush, flush_all, sweep, write_json
from runyoro_ssl.disk.lock import FolderLock, Words
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.prepare.shards.job import Job
from runyoro_ssl.prepare.shards.origin import deciders_of_clips
from runyoro_ssl.prepare.shards.shard import cannot_write

LOCK, SETTINGS = "prepare.lock", "settings.json"
LOCK_BEFORE = "lock"
"""The lock file of versions without CLIPS_VERSION, which they leave behind."""


@dataclass(frozen=True)
class Store:
    """`<output_dir>.shards`: a folder of shards for each set of settings, and the folders below."""

    output_dir: Path
    folder: Path

    @classmethod
    def beside(cls, output_dir: Path) -> Self:
        """The store of a dataset."""
        return cls(output_dir, output_dir.with_name(f"{output_dir.name}.shards"))

    @property
    def downloads(self) -> Path:
        """The folder for recordings of a dataset on the hub."""
        return self.folder / "downloads"

    @property
    def jobs(self) -> Path:
        """The folder for files of an executor."""
        return self.folder / "jobs"

    @property
    def finished(self) -> Path:
        """The folder of the new dataset before it has its name."""
        return self.folder / "finished"

    @property
    def replaced(self) -> Path:
        """The folder of the old dataset when it has lost its name. It goes last: while it is there, work is left."""
        return self.folder / "replaced"

    @contextmanager
    def locked(self, command: str = "invoke prepare") -> Iterator[FolderLock]:
        """Hold the store for this process, which `command` started; one that is left without anything in it goes.

        What a kill interrupted is put right first.

        Raises:
            ConfigError: Another process holds it.
            DatasetError: The disk is full, or does not take a file.
        """
        if_lost = "If nothing else prepares it, run the same again: what is done stays, and is not done again"
        lock = FolderLock(self.folder / LOCK, Words(command, self.output_dir, if_lost, ConfigError))
        try:
            lock.acquire()
        except OSError as error:
            raise cannot_write(self.folder, error) from None
        try:
            if self.replaced.exists() and not self.output_dir.exists():
                self.replaced.rename(self.output_dir)
            shutil.rmtree(self.finished, ignore_errors=True)
            yield lock
        finally:
            lock.release()
            with suppress(OSError):
                self.folder.rmdir()

    def shards_of(self, job: Job) -> Path:
        """The folder for shards with the settings of a job, there or not."""
        return self.folder / job.clips_sha256[:16]

    def open_shards(self, job: Job) -> Path:
        """The folder for shards with the settings of a job, made if need be."""
        shards = self.shards_of(job)
        shards.mkdir(exist_ok=True)
        if not (shards / SETTINGS).exists():
            write_json(shards / SETTINGS, deciders_of_clips(job.origin))
        return shards

    def last_settings(self, job: Job) -> dict[str, Any] | None:
        """What decided the newest shards, if there are some and a job can use none; {} if that is damaged."""
        others = list(self.folder.glob(f"*/{SETTINGS}"))
        if not others or self.shards_of(job).exists():
            return None
        try:
            found = json.loads(max(others, key=os.path.getmtime).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def put_in_place(self) -> None:
        """Give the finished dataset its name; a power cut does not undo it."""
        check_replaceable(self.output_dir, overwrite=True)
        flush_all(self.finished)
        shutil.rmtree(self.replaced, ignore_errors=True)
        if self.output_dir.exists():
            self.output_dir.rename(self.replaced)
        try:
            self.finished.rename(self.output_dir)
        except BaseException:
            if self.replaced.exists():
                self.replaced.rename(self.output_dir)
            raise
        flush(self.output_dir.parent)

    def is_untidy(self, *, keep_shards: bool) -> bool:
        """Whether something is left of a preparation that was killed while it cleaned up."""
        return self.replaced.exists() or not keep_shards

    def clean_up(self, shards: Path, used: Iterable[Path], *, keep_shards: bool) -> None:
        """Remove what no later preparation with these settings can use."""
        keep = {shards, self.downloads} if keep_shards else set()
        if keep and shards.exists():
            _remove_unused(shards, used)
        (self.folder / LOCK_BEFORE).unlink(missing_ok=True)
        ours = set(self.folder.glob(16 * "[0-9a-f]"))
        ours |= {self.downloads, self.finished, self.replaced, self.jobs}
        for path in sorted(ours - keep, key=lambda path: path == self.replaced):
            if path.is_dir():
                shutil.rmtree(path)


def check_replaceable(output_dir: Path, *, overwrite: bool) -> None:
    """Refuse to replace anything but a prepared dataset, and that unless asked: never a folder of recordings.

    Raises:
        ConfigError: It holds something else, or was not asked for.
    """
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return
    if not (output_dir / FINGERPRINT).is_file():
        raise ConfigError(f"{output_dir} exists and is not a prepared dataset; give another --output-dir")
    if not overwrite:
        raise ConfigError(f"{output_dir} already holds a dataset; add --overwrite to replace it")


def _remove_unused(shards: Path, used: Iterable[Path]) -> None:
    """Remove from a folder of shards what killed writers left, and the shards whose Arrow files are not in use."""
    sweep(shards)
    keep = {path.stem for path in used}
    for path in shards.iterdir():
        if keep and path.name != SETTINGS and path.stem not in keep:
            path.unlink()
