"""Clocks have three uses here: how long work takes, ending before a job's time is over, a machine that slept."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

SLACK = 1.5
"""Times that the next step and save may take as long as the last ones."""
MIN_SLEEP_SEC = 60.0


def now() -> float:
    """Seconds on the clock by which a run is measured; it stands still while the machine sleeps.

    Linux: CLOCK_MONOTONIC "does not count time that the system is suspended" (clock_gettime(2)). macOS: Python's
    time.monotonic() is mach_absolute_time, which "does not increment while the system is asleep" (mach_time.h).
    """
    return time.monotonic()


@dataclass(frozen=True)
class Deadline:
    """The time by which a run must have ended: `seconds` after `started` (on this clock). None: never."""

    seconds: float | None
    started: float

    def is_near(self, step_seconds: float, save_seconds: float) -> bool:
        """Whether another step and a save, as long as these or half as long again, would not end in time."""
        if self.seconds is None:
            return False
        return now() + SLACK * (step_seconds + save_seconds) > self.started + self.seconds


def process_started() -> float:
    """The start of this process, on this clock: the time its imports took counts for a batch system too.

    What came before the process, such as loading a container, is not known here.
    """
    return now() - max(0.0, time.time() - psutil.Process().create_time())


class SleepWatch:
    """The time that the machine slept, told from the wall clock and this one, which stands still meanwhile.

    A wall clock that is set forward by a minute or more looks the same.
    """

    def __init__(self) -> None:
        self._wall, self._awake = time.time(), now()

    def lap(self) -> float:
        """Seconds that the machine slept since the last lap; 0 if under a minute."""
        wall, awake = time.time(), now()
        slept = (wall - self._wall) - (awake - self._awake)
        self._wall, self._awake = wall, awake
        return slept if slept >= MIN_SLEEP_SEC else 0.0
