"""Time that passes when the simulation says so. What happens in it happens in order, one thread at a time."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from typing import Any

Happening = Callable[[], None]


class SimulatedClock:
    """Stands for the module `time`. Processes that are forked one after another go on where the last one left it.

    `monotonic` stands still while the machine sleeps; `time`, the clock on the wall, goes on.
    """

    WALL = 1_767_225_600.0
    """The wall clock at the start: a New Year's morning."""

    def __init__(self) -> None:
        self._shared = RawArray("d", 2)  # seconds awake, seconds asleep
        self._coming: list[tuple[float, int, Happening]] = []
        self._numbers = itertools.count()
        self.job: BackgroundJob | None = None
        """What runs now in place of the main thread."""

    def monotonic(self) -> float:
        """Seconds awake since the start of the simulation."""
        return float(self._shared[0])

    def time(self) -> float:
        """Seconds since 1970."""
        return self.WALL + float(self._shared[0] + self._shared[1])

    @property
    def asleep(self) -> float:
        """Seconds that the machine slept so far."""
        return float(self._shared[1])

    def sleep_over(self, seconds: float) -> None:
        """The machine sleeps."""
        self._shared[1] += seconds

    def at(self, time: float, happening: Happening) -> None:
        """Have something happen; at once, when time next passes, if that is over."""
        heapq.heappush(self._coming, (time, next(self._numbers), happening))

    def forget(self) -> None:
        """Nothing is to happen any more: of a process that ended."""
        self._coming.clear()

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and happen what is due. A job in the background waits, and the main thread goes on."""
        if self.job is not None:
            self.job.wait(self.monotonic() + seconds)
            return
        until = self.monotonic() + seconds
        while self._coming and self._coming[0][0] <= until:
            self.pass_to_next()
        self._shared[0] = until

    def pass_to_next(self) -> None:
        """Let time pass until the next thing happens."""
        time, _, happening = heapq.heappop(self._coming)
        self._shared[0] = max(self._shared[0], time)
        happening()


class BackgroundJob:
    """Work in a thread, which runs only while the main thread waits for it: a future, as its executor gives it."""

    def __init__(self, clock: SimulatedClock, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._clock, self._work, self._arguments = clock, work, arguments
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._turn = 0
        self._is_over, self._result = False, None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()
        self._resume(0)

    def result(self) -> Any:
        """Wait for its end, in simulated time."""
        while not self._is_over:
            self._clock.pass_to_next()
        if self._error is not None:
            raise self._error
        return self._result

    def wait(self, until: float) -> None:
        """In the thread: hand over to the main thread until then, or until it is called."""
        turn = self._turn
        self._clock.at(until, lambda: self._resume(turn))
        self._back.release()
        self._go.acquire()

    def call(self) -> None:
        """Have it go on now, if it waits."""
        turn = self._turn
        self._clock.at(self._clock.monotonic(), lambda: self._resume(turn))

    def _resume(self, turn: int) -> None:
        if turn != self._turn or self._is_over:  # it was called before
            return
        self._turn += 1
        self._clock.job = self
        self._go.release()
        self._back.acquire()
        self._clock.job = None

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._result = self._work(*self._arguments)
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        self._is_over = True
        self._back.release()


class SimulatedExecutor:
    """Stands for ThreadPoolExecutor(1)."""

    clock: SimulatedClock

    def __init__(self, _max_workers: int, thread_name_prefix: str) -> None:
        self._name = thread_name_prefix
        self._job: BackgroundJob | None = None

    def submit(self, work: Callable[..., Any], *arguments: Any) -> BackgroundJob:
        """Begin."""
        self._job = job = BackgroundJob(self.clock, work, arguments)
        return job

    def shutdown(self) -> None:
        """Wait for the end of what is in hand."""
        if self._job is not None:
            self._job.result()


class SimulatedThreading:
    """Stands for the module `threading`, of which an event is all that is needed."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock

    def Event(self) -> SimulatedEvent:  # noqa: N802 - threading's
        """An event."""
        return SimulatedEvent(self._clock)


class SimulatedEvent:
    """Stands for threading.Event: a job in the background waits for it, in simulated time."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock, self._is_set = clock, False
        self._waiting: BackgroundJob | None = None

    def set(self) -> None:
        """Wake who waits."""
        self._is_set = True
        if self._waiting is not None:
            self._waiting.call()

    def clear(self) -> None:
        """Unset it."""
        self._is_set = False

    def wait(self, timeout: float) -> bool:
        """Wait, in the background. Returns whether it is set."""
        if not self._is_set:
            self._waiting = self._clock.job
            self._clock.pass_by(timeout)
            self._waiting = None
        return self._is_set
