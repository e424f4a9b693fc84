"""The writer of a run's checkpoints, which works beside the training where a copy of the run fits into memory."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from safetensors import SafetensorError

from runyoro_ssl.disk.durable import remove_folder
from runyoro_ssl.disk.lock import FolderLock
from runyoro_ssl.errors import CheckpointError, TrainingError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.train.checkpoints.folder import remove_old, remove_superseded
from runyoro_ssl.train.checkpoints.format import (
    NOT_FINITE,
    Snapshot,
    checkpoint_of,
    verify_checkpoint,
    write_checkpoint,
)
from runyoro_ssl.train.stopping import clock
from runyoro_ssl.train.stopping.hanging import named_if_it_hangs
from runyoro_ssl.train.training_run import TrainingRun

log = get_logger()

RETRY_SEC = 60.0
"""A checkpoint that could not be written, e.g. for lack of space, is tried again so often while the run goes on."""


class Saver:
    """The only writer of a run's checkpoints.

    `model` and `extractor`: only their configuration is written. `limit`: checkpoints kept, 0 for all. `check` raises
    if the folder is no longer this run's; it is asked before each write. `refuge` then says where what was learned may
    be saved, and `furnish` puts beside it what a run's folder needs. `on_first` is told of the first checkpoint's step.
    """

    next_try = f"in {RETRY_SEC:.0f} s, or with the next checkpoint"

    def __init__(
        self,
        output_dir: Path,
        model: Any,
        extractor: Any,
        *,
        limit: int,
        check: Callable[[], None] = lambda: None,
        refuge: Callable[[], Path | None] = lambda: None,
    ) -> None:
        self._output_dir, self._model, self._extractor, self._limit = output_dir, model, extractor, limit
        self._check, self._refuge = check, refuge
        self.furnish: Callable[[Path], None] = lambda _folder: None
        self.on_first: Callable[[int], None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._stop_trying = threading.Event()
        self._writing: Future[str | None] | None = None
        self._problem: str | None = None
        self.seconds = 0.0
        """What the last save took, from the snapshot to the end of its verification."""

    @classmethod
    def of(cls, run: TrainingRun, lock: FolderLock | None, **more: Any) -> Self:
        """The saver of a run; only the main process has a lock. `more`: what a subclass asks for."""
        config = run.config.train
        if lock is not None:
            more |= {"check": lock.check, "refuge": lock.refuge}
        return cls(config.output_dir, run.model, run.extractor, limit=config.save_total_limit, **more)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_trying.set()
        with self._named():
            self._thread.shutdown()

    def save(self, take: Callable[[], Snapshot]) -> None:
        """Write what `take` gives, in the background if that is a copy; then remove old checkpoints, but not the best.

        A save still being written is waited for; one that failed so far is given up for this newer one.

        Raises:
            TrainingError: The folder is no longer this run's; says where what was learned is saved instead.
        """
        self.settle()
        started = clock.now()
        snapshot = take()
        if not snapshot.is_finite():
            snapshot.state["concerns"] = [*snapshot.state["concerns"], NOT_FINITE]
        self._look(snapshot)
        if snapshot.is_copy:
            self._stop_trying.clear()
            self._writing = self._thread.submit(self._keep_trying, snapshot, started)
        else:
            with self._named():
                self._problem = self._write(snapshot, started)

    def settle(self) -> None:
        """Wait until no checkpoint is being written. Raises what was a bug there."""
        self._stop_trying.set()
        if self._writing is not None:
            writing, self._writing = self._writing, None
            with self._named():
                self._problem = writing.result()

    def finish(self) -> None:
        """Wait for the end of the last save.

        Raises:
            TrainingError: It could not be written: what was learned since the last one is lost.
        """
        self.settle()
        if self._problem is not None:
            raise TrainingError(f"{self._problem}; make room, then --resume-from-checkpoint last")

    def _named(self) -> AbstractContextManager[None]:
        return named_if_it_hangs(f"a checkpoint to be written into {self._output_dir}")

    def _keep_trying(self, snapshot: Snapshot, started: float) -> str | None:
        """Write until it succeeds, or there is a newer one. What is in the way then, or None."""
        while problem := self._write(snapshot, started):
            if self._stop_trying.wait(RETRY_SEC):
                return problem
        return None

    def _write(self, snapshot: Snapshot, started: float) -> str | None:
        """Write, verify, then remove old ones. What is in the way if it cannot be written, else None."""
        self._look(snapshot)
        try:
            problem = self._lack_of_space(snapshot)
            if problem is None:
                write_checkpoint(self._output_dir, snapshot, self._model, self._extractor)
                problem = self._verify(snapshot, started)
        except (OSError, SafetensorError) as error:
            problem = str(error)
        return None if problem is None else self._say(snapshot, problem)

    def _look(self, snapshot: Snapshot) -> None:
        """Make sure that the folder is still this run's; else save elsewhere what was learned, and raise."""
        try:
            self._check()
        except TrainingError as lost:
            self._rescue(snapshot, lost)

    def _rescue(self, snapshot: Snapshot, lost: TrainingError) -> NoReturn:
        place = self._refuge()
        if place is None:
            raise lost
        try:
            place.mkdir(parents=True, exist_ok=True)
            self.furnish(place)
            saved = write_checkpoint(place, snapshot, self._model, self._extractor)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"{lost}. What was learned since could not be saved in {place} either ({error})"
            ) from None
        raise TrainingError(
            f"{self._output_dir} was renamed, moved or removed during the run, or its lock was; what was learned up to "
            f"step {snapshot.step} is saved: {saved}; go on with --output-dir {place} --resume-from-checkpoint last"
        )

    def _verify(self, snapshot: Snapshot, started: float) -> str | None:
        """Keep a checkpoint that is intact, and remove old ones; else remove it, and give what is wrong with it."""
        final = checkpoint_of(self._output_dir, snapshot.step)
        try:
            problem = verify_checkpoint(final)
        except CheckpointError as error:
            problem = str(error)
        if problem is not None:
            remove_folder(final)
            return problem
        self._tidy_up(snapshot.step)
        self.seconds = clock.now() - started
        log.info("checkpoint_saved", step=snapshot.step, path=str(final), seconds=round(self.seconds, 1))
        return None

    def _tidy_up(self, step: int) -> None:
        """Tell that there is a checkpoint, and remove old ones: neither failure costs the new one."""
        if self.on_first is not None:
            with suppress(OSError):  # told with the next one
                self.on_first(step)
                self.on_first = None
        remove_old(self._output_dir, self._limit)

    def _say(self, snapshot: Snapshot, problem: str) -> str:
        """Warn of a checkpoint that could not be written; in the words of the error, if it was the last."""
        final = checkpoint_of(self._output_dir, snapshot.step)
        said = f"{final} could not be written ({problem}); what was saved before is untouched"
        log.warning("checkpoint_not_saved", why=said, next_try=self.next_try)
        return said

    def _lack_of_space(self, snapshot: Snapshot) -> str | None:
        if shutil.disk_usage(self._output_dir).free >= snapshot.num_bytes:
            return None
        if removed := remove_superseded(self._output_dir):
            log.warning("superseded_removed", names=removed, because="the disk is nearly full")
        free = shutil.disk_usage(self._output_dir).free
        if free >= snapshot.num_bytes:
            return None
        return f"it takes {_mib(snapshot.num_bytes)}, the disk has {_mib(free)} free"


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"
