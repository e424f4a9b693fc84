"""The pace of a run: how long its steps and validations take here, and so the whole of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from runyoro_ssl.page.amounts import amount_of_time
from runyoro_ssl.train.intervals import Intervals
from runyoro_ssl.train.stopping import clock

SETTLED_STEPS, SETTLED_SEC = 10, 60.0
"""So many measured steps, or so much time in them, say how long the run takes."""

SAME_DAYS = 6
"""From then on, the name of a day of the week does not say which."""


@dataclass
class Pace:
    """What steps and validations have taken so far, in seconds. The first step of a process is not typical.

    `step_seconds`: of the last step.
    """

    step_seconds: float = 0.0
    validation_seconds: float = 0.0
    num_measured: int = 0
    _measured_seconds: float = 0.0
    _first_is_over: bool = False

    def begin_step(self) -> None:
        """A step begins now."""
        self._began = clock.now()

    def end_step(self) -> None:
        """It is over."""
        self.step_seconds = clock.now() - self._began
        if self._first_is_over:
            self.num_measured += 1
            self._measured_seconds += self.step_seconds
        self._first_is_over = True

    @property
    def is_settled(self) -> bool:
        """Whether enough was measured."""
        return self.num_measured >= SETTLED_STEPS or (self.num_measured > 0 and self._measured_seconds >= SETTLED_SEC)

    @property
    def usual_step(self) -> float:
        """Seconds of a step; of the first if there is no other."""
        return self._measured_seconds / self.num_measured if self.num_measured else self.step_seconds

    def seconds_left(self, intervals: Intervals, step: int) -> float:
        """Seconds from after a step to the end of the run: the steps and validations that are left."""
        validations = intervals.num_validations(step) * self.validation_seconds
        return (intervals.total_steps - step) * self.usual_step + validations

    def words(self, intervals: Intervals, step: int) -> dict[str, str]:
        """How long the run takes and when it ends, as after this step, and its intervals in minutes."""
        left = self.seconds_left(intervals, step)
        return {
            "whole_run": amount_of_time(self.seconds_left(intervals, 0)),
            "left": amount_of_time(left),
            "ends": ends_at(left),
            "step": amount_of_time(self.usual_step),
            **intervals.words(self.usual_step),
        }


def ends_at(seconds: float) -> str:
    """When so many seconds will have passed, by the clock on the wall: Tue 14:05; with the date from six days on."""
    then = datetime.now().astimezone() + timedelta(seconds=seconds)
    return f"{then:%a %H:%M}" if seconds < SAME_DAYS * 86_400 else f"{then:%a %d %b %H:%M}"
