"""The disk of a run: a real one, which is full now and then, and on which a process may die."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from runyoro_ssl.builtins.loggers import JsonlLogger
from runyoro_ssl.plugin.spec import Run
from simulated.clock import SimulatedClock
from simulated.faults import SAVE_SEC, Faults

PLENTY = 1 << 40
SYNCS = 8
"""Of a checkpoint: files and folders."""
KILLED = 137


@dataclass
class Disk:
    """The disk of the run: real, but full now and then; its calls take simulated time, and a process may die in one."""

    clock: SimulatedClock
    faults: Faults
    dies_in: int | None = None
    """Of so many calls from now, the process does not survive the last."""
    num_refused: int = 0

    def is_full(self) -> bool:
        """Whether nothing can be written now."""
        return any(span.holds(self.clock.monotonic()) for span in self.faults.full)

    def sync(self, _descriptor: int) -> None:
        """durable._full_sync. A process that is killed leaves what it has written: nothing need really be flushed."""
        self.call(SAVE_SEC / SYNCS if self.clock.job is not None else 0.1)
        if self.is_full():
            self.num_refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def call(self, seconds: float) -> None:
        """A call that takes a while."""
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in <= 0:
                os._exit(KILLED)
        self.clock.pass_by(seconds)

    def usage(self, _folder: Any) -> Any:
        """shutil.disk_usage. A quota does not say that it is full."""
        for span, seen in zip(self.faults.full, self.faults.seen, strict=True):
            if seen and span.holds(self.clock.monotonic()):
                return shutil._ntuple_diskusage(PLENTY, PLENTY, 0)
        return shutil._ntuple_diskusage(2 * PLENTY, PLENTY, PLENTY)

    def remove(self, real: Callable[..., None]) -> Callable[..., None]:
        """shutil.rmtree, which takes a while too."""

        def rmtree(path: Any, *rest: Any, **more: Any) -> None:
            if os.path.exists(path):  # noqa: PTH110 - as rmtree, whatever it is given
                self.call(0.5)
            real(path, *rest, **more)

        return rmtree

    def limit(self, real: Callable[..., None]) -> Callable[..., None]:
        """JsonlLogger.open, with a file on this disk."""

        def open_(logger: JsonlLogger, run: Run) -> None:
            real(logger, run)
            assert logger._file is not None
            logger._file = LimitedFile(logger._file, self)  # type: ignore[assignment]  # as much of one as is used

        return open_


@dataclass
class LimitedFile:
    """A file on the disk. When that fills, half of a line still fits, and then nothing."""

    file: IO[bytes]
    disk: Disk
    was_full: bool = False

    def write(self, data: bytes) -> int:
        """Write what there is room for."""
        was_full, self.was_full = self.was_full, self.disk.is_full()
        if self.was_full and (was_full or len(data) < 2):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data[: len(data) // 2] if self.was_full else data)

    def close(self) -> None:
        """Close it."""
        self.file.close()
