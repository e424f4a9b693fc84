"""The share of the dataset, which hangs now and then, and what builds batches from it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from runyoro_ssl.batches.build import BatchBuilder, TrainingBatch
from runyoro_ssl.batches.micro_batches import MicroBatch
from simulated.clock import SimulatedClock
from simulated.faults import Faults


@dataclass
class Share:
    """The share of the dataset, which hangs now and then; and the one worker that reads it."""

    clock: SimulatedClock
    faults: Faults
    worker: Worker | None = None

    def gives(self) -> bool:
        """Whether something can come: batches, or the end of a worker."""
        killed = self.worker is not None and self.worker.exitcode is not None
        return killed or not any(span.holds(self.clock.monotonic()) for span in self.faults.hangs)

    @contextmanager
    def started(self, builder: BatchBuilder, plans: Iterator[MicroBatch], _num_workers: int) -> Iterator[Any]:
        """loader._started: batches, and the process that makes them."""
        self.worker = worker = Worker()
        try:
            yield WorkerBatches(builder, plans, worker), [worker]
        finally:
            worker.close()
            self.worker = None


class Worker:
    """A process that builds batches, seen from outside."""

    pid = 0

    def __init__(self) -> None:
        self.sentinel, self._end = os.pipe()
        self.exitcode: int | None = None

    def kill(self) -> None:
        """SIGKILL."""
        if self.exitcode is None:
            self.exitcode = -int(signal.SIGKILL)
            os.close(self._end)

    def join(self, timeout: float | None = None) -> None:
        """It has ended by then."""

    def is_alive(self) -> bool:
        """Whether it was not killed."""
        return self.exitcode is None

    def close(self) -> None:
        """Forget it."""
        self.kill()
        os.close(self.sentinel)


@dataclass
class WorkerBatches(Iterator[TrainingBatch]):
    """The batches of a worker, as torch's loader hands them out."""

    builder: BatchBuilder
    plans: Iterator[MicroBatch]
    worker: Worker
    _task_info: dict[int, Any] = field(default_factory=dict)
    _rcvd_idx: int = 0

    def __next__(self) -> TrainingBatch:
        if self.worker.exitcode is not None:
            raise RuntimeError("DataLoader worker is killed by signal: Killed.")
        return self.builder[next(self.plans)]


class SimulatedPrefetch(Iterator[Any]):
    """Stands for Prefetch: nothing is built ahead, and who waits does so in simulated time."""

    share: Share
    longest_sec = 0.0
    fault: str | None = None

    def __init__(self, items: Any) -> None:
        self._items = items

    def wait(self, timeout_sec: float) -> bool:
        """Wait for the next item."""
        if self.share.gives():
            return True
        self.share.clock.pass_by(timeout_sec)
        return False

    def __next__(self) -> Any:
        return next(self._items)

    def close(self, _timeout_sec: float = 0.0) -> bool:
        """End what builds."""
        self._items.close()
        return True
