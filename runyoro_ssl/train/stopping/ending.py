"""When a run ends before its last step: all its processes must leave at the same one, and know why."""

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
    """How a run ended. `early`: validation no longer improved."""

    kind: Literal["finished", "early", "signal", "time"]
    signal: signal.Signals | None = None


@dataclass
class Stopping:
    """Asks every process whether it must stop. `step_seconds`, `save_seconds`: what a step, and a save, takes."""

    accelerator: Any
    signals: StopSignal
    deadline: Deadline
    save_seconds: Callable[[], float] = lambda: 0.0
    step_seconds: float = 0.0

    def asked(self) -> Ending | None:
        """Why to stop now, or None; every process calls it at the same point."""
        mine = self._mine()
        if not sum_over_processes(self.accelerator, int(mine is not None)):
            return None
        every: list[Ending | None] = gather_over_processes(self.accelerator, mine)
        return next(ending for ending in every if ending is not None)

    def _mine(self) -> Ending | None:
        if self.accelerator.is_main_process:
            self.signals.announce()
        if self.signals.received is not None:
            return Ending("signal", self.signals.received)
        if self.deadline.is_near(self.step_seconds, self.save_seconds()):
            return Ending("time")
        return None
