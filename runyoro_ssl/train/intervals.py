"""How often a run is logged, validated and saved: the one place of the rule.

                as a flag is given            where none is
    log line    every `--logging-steps`       after the first step, every tenth, and when the last is a minute old
    validation  every `train.eval_steps`,     every twentieth of the run's steps, but 5 steps apart at least, and so far
                else every `--save-steps`     apart that all validations cost at most a tenth of the training
    checkpoint  every `--save-steps`          every twentieth of the run's steps, and before 15 minutes are over; but 3
                                              seconds apart at least, and saving takes at most a tenth of the time

The last step has all three; the best model so far is always saved. What goes by steps follows from the run's plan
alone: neither machine, clock nor a stop changes it, so that the best model is the same. What goes by the clock is
decided by the main process, for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from runyoro_ssl.page.amounts import amount_of_time, plural
from runyoro_ssl.processes import sum_over_processes
from runyoro_ssl.train.stopping import clock
from runyoro_ssl.train.training_run import TrainingRun

TIMES_A_RUN = 20
SAVE_SEC, LOG_SEC = 15 * 60.0, 60.0
SAVE_APART_SEC = 3.0
"""Nobody misses them, and a run of seconds would else be all checkpoints."""
LOG_STEPS = 10
VALIDATION_APART = 5
"""Steps. A short run whose every validation is its best would else spend its time on saving them."""
MAX_SHARE = 0.1
"""Of the run's time, that validations may cost, and that checkpoints may."""
FORWARD_SHARE = 1 / 3
"""Of a training step, for the same audio: what validation computes."""


@dataclass(frozen=True)
class Intervals:
    """Steps between log lines, validations and checkpoints of a run.

    `by_clock_too`: no flag sets the log lines (or checkpoints), and they come by the clock as well.
    """

    total_steps: int
    log: int
    validate: int
    save: int
    log_by_clock_too: bool
    save_by_clock_too: bool

    @classmethod
    def of(cls, run: TrainingRun) -> Self:
        """The intervals of a run: those that are set, else by the rule."""
        config, total = run.config.train, run.total_steps
        share = max(1, total // TIMES_A_RUN)
        return cls(
            total_steps=total,
            log=config.logging_steps or LOG_STEPS,
            validate=config.eval_steps or config.save_steps or max(share, VALIDATION_APART, _affordable(run)),
            save=config.save_steps or share,
            log_by_clock_too=config.logging_steps is None,
            save_by_clock_too=config.save_steps is None,
        )

    def is_validated(self, step: int) -> bool:
        """Whether a validation belongs after this step."""
        return step == self.total_steps or step % self.validate == 0

    def num_validations(self, start_step: int) -> int:
        """Validations that follow after a step."""
        return self._num(self.validate, start_step)

    def num_checkpoints(self, start_step: int) -> int:
        """Checkpoints that follow after a step, of those that go by steps."""
        return self._num(self.save, start_step)

    def _num(self, every: int, start_step: int) -> int:
        last = self.total_steps
        return last // every - start_step // every + int(last % every > 0 and start_step < last)

    def words(self, step_seconds: float | None = None) -> dict[str, str]:
        """How often a run is logged, validated and saved, for people; in minutes too where a step's time is known."""
        log, save = self._every(self.log, step_seconds), self._every(self.save, step_seconds)
        return {
            "log": f"the first step, {log}, and every minute" if self.log_by_clock_too else log,
            "validation": self._every(self.validate, step_seconds),
            "checkpoint": f"{save}, and every {SAVE_SEC / 60:.0f} min" if self.save_by_clock_too else save,
        }

    def _every(self, every: int, step_seconds: float | None) -> str:
        if every >= self.total_steps:
            return "at the end"
        steps = "every step" if every == 1 else f"every {plural(every, 'step')}"
        return steps if step_seconds is None else f"{steps} ({amount_of_time(every * step_seconds)})"


def _affordable(run: TrainingRun) -> int:
    """Steps between validations so that these cost at most `MAX_SHARE` of the steps, by the audio that is computed."""
    return math.ceil(FORWARD_SHARE * run.judged_seconds / (MAX_SHARE * run.update_seconds))


class Due(NamedTuple):
    """What is to be done after a step; the same in every process."""

    log: bool
    save: bool


@dataclass
class Schedule:
    """The log lines and checkpoints of a run under way.

    `save_seconds`: what the last save took in all, in the background or not.
    """

    accelerator: Any
    intervals: Intervals
    save_seconds: Callable[[], float] = lambda: 0.0
    _logged_at: float = field(init=False)
    _saved_at: float = field(init=False)
    _held_up: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._logged_at = self._saved_at = clock.now()

    def due(self, step: int, *, saved_step: int, step_seconds: float) -> Due:
        """What is due after a step. Every process calls it; where the clock has a say, the main one decides.

        `saved_step`: step of the last checkpoint; `step_seconds`: what this step took.
        """
        intervals = self.intervals
        due = Due(self._is_log_due(step), self._is_save_due(step, saved_step, step_seconds))
        if intervals.log_by_clock_too or intervals.save_by_clock_too:
            mine = due.log + 2 * due.save if self.accelerator.is_main_process else 0
            every = sum_over_processes(self.accelerator, mine)
            due = Due(bool(every & 1), bool(every & 2))
        return Due(due.log or step == intervals.total_steps, due.save or step == intervals.total_steps)

    def logged(self) -> None:
        """A line was logged now."""
        self._logged_at = clock.now()

    def saved(self, *, held_up: float) -> None:
        """A checkpoint was taken, for which the run waited until now, so many seconds."""
        self._saved_at, self._held_up = clock.now() - held_up, held_up

    def _is_log_due(self, step: int) -> bool:
        if step % self.intervals.log == 0:
            return True
        return self.intervals.log_by_clock_too and (step == 1 or clock.now() - self._logged_at >= LOG_SEC)

    def _is_save_due(self, step: int, saved_step: int, step_seconds: float) -> bool:
        every = self.intervals.save
        if not self.intervals.save_by_clock_too:
            return step % every == 0
        since, save_seconds = clock.now() - self._saved_at, self.save_seconds()
        # Another step, and the writing, must still end in time; but steps of many minutes are not saved twice each.
        ahead = min(clock.SLACK * (step_seconds + save_seconds), SAVE_SEC / 2)
        if since >= max(SAVE_SEC - ahead, save_seconds):
            return True
        # What is written beside the training counts half.
        costs = max(self._held_up, save_seconds / 2)
        return step // every > saved_step // every and since >= max(SAVE_APART_SEC, costs / MAX_SHARE)
