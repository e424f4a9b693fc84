"""The wait for the next batches has an end: what hangs is named, and, where it is another process, replaced."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.batches.crew import Crew, forget
from runyoro_ssl.batches.prefetch import POLL_SEC, Prefetch
from runyoro_ssl.errors import LoaderError
from runyoro_ssl.processes import LOADER_PATIENCE_SEC

TIMES = 20
"""What builds batches does not count as hung, before nothing came for so many times what its slowest took."""
START_SEC = 180.0
"""Workers that start may take so long: each imports torch, perhaps from a share."""
GONE_SEC = 60.0
"""What was killed for it is gone by then, or will never be: it waits for a disk inside the kernel."""
END_SEC = 10.0
"""What the thread and workers have to finish what is in hand, before they are killed, or left behind."""

ELSEWHERE = "batches cannot be built in another process; see its message"


class Loading(Iterator[list[TrainingBatch]]):
    """The batches of each group, in order, as `next` gives them, or `wait` says that they are there.

    Time in which this process stood still (Ctrl-Z, a laptop that slept) does not count.
    """

    def __init__(
        self, groups: Generator[list[TrainingBatch]], crew: Crew, *, patience_sec: float = LOADER_PATIENCE_SEC
    ) -> None:
        self._coming, self._crew, self._patience_sec = Prefetch(groups), crew, patience_sec
        self._waited_sec = 0.0
        self._told_sec = 0.0
        self._num_seen = 0
        self._killed: object = None

    def wait(self, timeout_sec: float = POLL_SEC) -> bool:
        """Wait for the next group, at most so long. Returns whether `next` has something: a group, an error, the end.

        Raises:
            LoaderError: Nothing will come any more.
        """
        started = time.monotonic()
        if self._coming.wait(timeout_sec):
            self._waited_sec = self._told_sec = 0.0
            return True
        self._waited_sec += min(time.monotonic() - started, timeout_sec)
        if self._crew.num_built > self._num_seen:  # of this group, which has more of them
            self._num_seen, self._waited_sec, self._told_sec = self._crew.num_built, 0.0, 0.0
        if self._coming.fault is not None:
            raise LoaderError(
                f"{self._coming.fault} at {self._crew.describe_clips()}: {self._crew.describe_bus_error()}; then "
                "--resume-from-checkpoint last"
            )
        self._look()
        return False

    def __next__(self) -> list[TrainingBatch]:
        while not self.wait():
            pass
        return next(self._coming)

    def close(self) -> None:
        """End what builds batches. What hangs is not waited for: workers are killed, a thread is left behind."""
        crew = self._crew
        crew.is_closing = True
        hangs = self._waited_sec > 0
        if not self._coming.close(0 if hangs else END_SEC) and crew.workers:
            crew.kill()
            self._coming.close(END_SEC)
        for worker in crew.workers:
            forget(worker)

    def _look(self) -> None:
        """Kill workers that have hung for too long, which starts others; say so of this process."""
        crew = self._crew
        if self._killed is not None:
            if crew.workers is not self._killed:
                self._killed, self._waited_sec = None, 0.0
            elif self._waited_sec > GONE_SEC:
                raise LoaderError(
                    f"{crew.hung}, and it cannot be killed: it waits for a disk or share that does not answer "
                    f"({crew.describe_clips()}). See to that; then --resume-from-checkpoint last"
                )
            return
        start_sec = START_SEC if crew.is_starting else 0.0
        limit = max(self._patience_sec, start_sec, TIMES * self._coming.longest_sec, 2 * self._told_sec)
        if self._waited_sec < limit:
            return
        if crew.workers:
            crew.hung = crew.describe_hang(self._waited_sec)
            self._killed, self._waited_sec = crew.workers, 0.0
            crew.kill()
            return
        from runyoro_ssl.logs import get_logger  # the bench runs where there is no structlog

        self._told_sec = self._waited_sec
        get_logger().warning(
            "loading_hangs",
            because=crew.describe_hang(self._waited_sec),
            clip=crew.describe_clips(),
            now="the run waits on; Ctrl-C, SIGTERM and --stop-after save what was learned and end it",
        )
