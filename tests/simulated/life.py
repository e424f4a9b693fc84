"""The life of one process of a simulated run, from its start to its end, whatever that is."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from typing import Any

import psutil

from runyoro_ssl import logs
from runyoro_ssl.config import Config
from runyoro_ssl.errors import RunyoroError
from runyoro_ssl.train.loop import Loop
from simulated.clock import SimulatedClock
from simulated.disk import KILLED, Disk
from simulated.edges import replaced_edges
from simulated.faults import GRACE_SEC, START_SEC, Ending, Faults
from simulated.ledger import Ledger
from support.trainer import run

FINISHED, STOPPED, REFUSED, BUG = 0, 143, 1, 70
SAMPLE_STEPS = 100
MAX_SAMPLES = 4096
MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """What a process held after so many updates: resident MiB, and blocks of Python's allocator."""

    updates: int
    mib: float
    blocks: float


@dataclass(frozen=True)
class Life:
    """How a process ended: its status, when, in simulated seconds, and what it used."""

    status: int
    started: float
    ended: float
    signalled: float | None
    cpu_sec: float
    max_mib: float
    samples: tuple[Sample, ...]
    num_refused: int
    """Calls of the disk that failed because it was full."""


class Record:
    """What a process tells of itself while it lives: shared with the one that started it."""

    def __init__(self) -> None:
        self.signalled, self.num_refused = RawArray("d", 1), RawArray("L", 1)
        self.cpu, self.num_samples = RawArray("d", 1), RawArray("L", 1)
        self.samples = RawArray("d", 3 * MAX_SAMPLES)

    def sample(self, updates: int) -> None:
        """Note what is held now."""
        gc.collect()
        at = 3 * self.num_samples[0]
        self.samples[at : at + 3] = [
            float(updates),
            psutil.Process().memory_info().rss / MIB,
            float(sys.getallocatedblocks()),
        ]
        self.num_samples[0] += 1


@dataclass
class Machine:
    """A simulated machine, on which one process after another runs the same command."""

    config: Config
    clock: SimulatedClock
    faults: Faults
    ledger: Ledger
    log: str

    def live(self, *, may_be_ended: bool) -> Life:
        """Run a process to its end."""
        record, started = Record(), self.clock.monotonic()
        gc.collect()
        gc.freeze()
        if (pid := os.fork()) == 0:
            status = BUG
            try:
                status = self._run(record, may_be_ended=may_be_ended)
            finally:
                os._exit(status)
        _, wait_status, usage = os.wait4(pid, 0)
        status = os.waitstatus_to_exitcode(wait_status)
        count = 3 * record.num_samples[0]
        samples = [
            Sample(int(record.samples[at]), record.samples[at + 1], record.samples[at + 2]) for at in range(0, count, 3)
        ]
        return Life(
            KILLED if status == -signal.SIGTERM else status,  # before the trainer listens to signals
            started,
            self.clock.monotonic(),
            record.signalled[0] or None,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            tuple(samples),
            int(record.num_refused[0]),
        )

    def _run(self, record: Record, *, may_be_ended: bool) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        disk = Disk(self.clock, self.faults)
        self._expect(record, disk, may_be_ended=may_be_ended)
        logs.configure()
        with replaced_edges(self.clock, self.faults, self.ledger, disk):
            self.clock.pass_by(START_SEC)
            _measure_after_steps(record)
            try:
                result = run(self.config)
            except (RunyoroError, OSError) as error:
                print("error", error, flush=True)  # noqa: T201 - as the command does
                return REFUSED
            finally:
                record.num_refused[0] = disk.num_refused
        return FINISHED if result.ending.is_final else STOPPED

    def _expect(self, record: Record, disk: Disk, *, may_be_ended: bool) -> None:
        """Have happen to this process what is drawn for its time."""
        now = self.clock.monotonic()
        for time, seconds in self.faults.sleeps:
            if time >= now:
                self.clock.at(time, _sleep(self.clock, seconds))
        coming = [ending for ending in self.faults.endings if ending[0] >= now]
        if coming and may_be_ended:
            self.clock.at(coming[0][0], lambda: self._end(coming[0][1], record, disk))

    def _end(self, kind: Ending, record: Record, disk: Disk) -> None:
        if kind == "kill":
            os._exit(KILLED)
        if kind == "kill in a write":
            disk.dies_in = 1 + int(self.clock.monotonic()) % 12
            return
        record.signalled[0] = self.clock.monotonic()
        self.clock.at(self.clock.monotonic() + GRACE_SEC, lambda: os._exit(KILLED))
        os.kill(os.getpid(), signal.SIGTERM)


def _sleep(clock: SimulatedClock, seconds: float) -> Callable[[], None]:
    return lambda: clock.sleep_over(seconds)


def _measure_after_steps(record: Record) -> None:
    """Have every so manieth pass of the loop note what the process holds."""
    real, count = Loop._next, 0

    def next_(loop: Loop, batches: Any) -> Any:
        nonlocal count
        if count % SAMPLE_STEPS == 0:
            record.sample(count)
        count += 1
        return real(loop, batches)

    Loop._next = next_  # type: ignore[assignment,method-assign]  # of this process alone, which ends with it
