"""The end of a run before its last step, at which all its processes leave together, and know why."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from runyoro_ssl.processes import gather_over_processes, sum_over_processes
from runyoro_ssl.train.stopping.clock import Deadline
from runyoro_ssl.train.stopping.signals import StopSignal


@dataclass(frozen=True)
class Ending:
    """The way in which a run ended. `early`: validation no longer improved."""

    kind: Literal["finished", "early", "signal", "time"]
    signal: signal.Signals | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to do: the final model is there."""
        return self.kind in ("finished", "early")


@dataclass
class Stopping:
    """The question to every process whether it must stop. `step_seconds`, `save_seconds`: of the last step and save."""

    accelerator: Any
    signals: StopSignal
    deadline: Deadline
    save_seconds: Callable[[], float] = lambda: 0.0
    step_seconds: float = 0.0

    def asked(self) -> Ending | None:
        """The reason to stop now, or None; every process calls this at the same point."""
        mine = self._mine()
        if not sum_over_processes(self.accelerator, int(mine is not None)):
            return None
        every: list[Ending | None] = gather_over_processes(self.accelerator, mine)
        return next(ending for ending in every if ending is not None)

    def is_asked_here(self) -> bool:
        """Whether this process was asked, whatever the others were; nothing is said."""
        return self.signals.received is not None or self.deadline.is_near(self.step_seconds, self.save_seconds())

    def _mine(self) -> Ending | None:
        if self.accelerator.is_main_process:
            self.signals.announce()
        if self.signals.received is not None:
            return Ending("signal", self.signals.received)
        if self.deadline.is_near(self.step_seconds, self.save_seconds()):
            return Ending("time")
        return None
