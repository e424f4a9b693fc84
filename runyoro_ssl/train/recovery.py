"""What the health watch asks for is done here, and said: leave an update out, go back, stop."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from runyoro_ssl.errors import TrainingError
from runyoro_ssl.evaluate.metrics import UpdateNumbers
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.precision import instead_of_fp16
from runyoro_ssl.processes import gather_over_processes
from runyoro_ssl.train.checkpoints.folder import set_aside_later
from runyoro_ssl.train.checkpoints.resume import choose_healthy
from runyoro_ssl.train.checkpoints.snapshot import restore
from runyoro_ssl.train.health.alarms import NON_FINITE, Alarm, report_alarm
from runyoro_ssl.train.health.journal import SLEPT, TO_THE_BEGINNING, record
from runyoro_ssl.train.health.memory_growth import MemoryWatch
from runyoro_ssl.train.health.remedies import Remedies
from runyoro_ssl.train.training_run import TrainingRun
from runyoro_ssl.train.weights import restore_weights

log = get_logger()

HEAP_SETTLES = 300
"""Steps before growth of memory is judged; what a run may take is held from the first step on. A heap that keeps what
is freed reaches its size when it has seen most lengths of clips."""
RECENT = 20
"""Updates whose numbers the journal keeps of an alarm."""
MAX_NAMED = 10
"""Clips that an alarm names; the others are counted."""
MIN_LOSS_SCALE = 2.0**-10
"""fp16: 26 overflows in a row from the scale it starts with."""


class Alarmed(Exception):  # noqa: N818 - no error: the loop's way out of its steps
    """An alarm after which the run must not go on from where it is."""

    def __init__(self, alarm: Alarm, step: int) -> None:
        super().__init__(alarm.seen)
        self.alarm, self.step = alarm, step


class Recovery:
    """The watch's judgement of each update of a run, and what follows from it. `may_write`: into the run's folder."""

    def __init__(self, run: TrainingRun, may_write: Callable[[], bool]) -> None:
        self._run, self._may_write = run, may_write
        self._alarm: Alarm | None = None
        self._recent: deque[UpdateNumbers] = deque(maxlen=RECENT)
        self._skipped: dict[int, list[int]] = {}
        self._unwritten: deque[dict[str, Any]] = deque()
        self._memory = MemoryWatch(
            run.accelerator.device.type,
            Remedies.of(run.config, run.longest_sec),
            max_growth=run.config.health.max_memory_growth,
            warmup=HEAP_SETTLES,
            allowance=run.memory,
        )
        run.stepper.judge = self.judge

    def judge(self, numbers: UpdateNumbers) -> bool:
        """Whether the optimizer may take this update."""
        self._recent.append(numbers)
        alarm = self._run.watch.judge_update(numbers)
        if alarm is not None and alarm.kind == NON_FINITE:
            alarm = replace(alarm, clips=self._name_clips(numbers.step, alarm))
        self._alarm = alarm
        return alarm is None or alarm.action == "note"

    def act(self, step: int) -> None:
        """Do what the last update's alarm asks.

        Raises:
            Alarmed: The run must go back, or stop.
            TrainingError: fp16 cannot hold its gradients.
        """
        self._check_loss_scale()
        alarm, self._alarm = self._alarm, None
        if alarm is None:
            return
        if alarm.action in ("go_back", "stop"):
            raise Alarmed(alarm, step)
        self.report(alarm, step, "this step was left out" if alarm.action == "skip" else "training goes on")

    def report(self, alarm: Alarm, step: int, done: str) -> None:
        """Log an alarm, and keep it with the numbers of the updates before it."""
        if not self._run.accelerator.is_main_process:
            return
        incident = report_alarm(alarm, step=step, done=done)
        numbers = [asdict(each) for each in self._recent] if alarm.action != "skip" else []
        self._write({**incident, "rollbacks": self._run.watch.rollbacks, "last_updates": numbers})

    def remember_sleep(self, step: int, seconds: float) -> None:
        """Keep that the machine slept before a step."""
        if self._run.accelerator.is_main_process:
            self._write({"event": SLEPT, "step": step, "seconds": round(seconds)})

    def _write(self, line: dict[str, Any]) -> None:
        """Append to the journal. What a full disk has no room for, or a folder that is another run's, waits."""
        self._unwritten.append(line)
        try:
            self._write_all()
        except OSError as error:
            log.warning("journal_not_written", why=str(error), lines_waiting=len(self._unwritten))

    def write_waiting(self) -> None:
        """Try again what the journal has had no room for, which was said: before each log line, and with each save."""
        with suppress(OSError):
            self._write_all()

    def _write_all(self) -> None:
        while self._unwritten and self._may_write():
            record(self._run.config.train.output_dir, self._unwritten[0])
            self._unwritten.popleft()

    def _name_clips(self, step: int, alarm: Alarm) -> tuple[str, ...]:
        """The clips behind an update that is no number, or all those of late, the most frequent first."""
        clips = gather_over_processes(self._run.accelerator, self._run.stepper.clips_without_numbers())
        window = self._run.config.health.skip_window
        self._skipped = {past: rows for past, rows in self._skipped.items() if step - window < past < step}
        self._skipped[step] = [row for rows in clips for row in rows]
        asked = [step] if alarm.action == "skip" else list(self._skipped)
        often = [row for row, _ in Counter(row for past in asked for row in self._skipped[past]).most_common()]
        if not self._run.accelerator.is_main_process:
            return ()
        names = self._run.sources.name_clips(often[:MAX_NAMED])
        more = len(often) - len(names)
        return (*names, *([f"and {more} more"] if more else []))

    def watch_memory(self, step: int) -> None:
        """Hold memory to what the run may take; say when that fails, or when it keeps growing. After every step."""
        seen = self._memory.measure(step)
        if self._run.config.health.enabled and seen is not None:
            log.warning("memory_grows", step=step, seen=seen)

    def memory_numbers(self) -> dict[str, float]:
        """MiB in use, for the log."""
        return self._memory.numbers()

    def _check_loss_scale(self) -> None:
        scaler = self._run.accelerator.scaler  # fp16: an overflow is skipped, and the loss scale halved
        if scaler is not None and scaler.get_scale() < MIN_LOSS_SCALE:
            raise TrainingError(
                f"fp16 overflows at every step (loss scale {scaler.get_scale():g}), so nothing is learned; use "
                f"{instead_of_fp16(self._run.accelerator.device.type)}"
            )


def go_back(run: TrainingRun, *, behind: int | None = None) -> str:
    """Restore the last healthy checkpoint of a run in place, in every process. Returns what was done, in words.

    `behind`: the last step that it may be of.
    """
    output_dir = run.config.train.output_dir
    start = choose_healthy(output_dir, run.accelerator, rollbacks=run.watch.rollbacks + 1, at_most=behind)
    restore_weights(run, start)
    restore(run, start)
    if run.accelerator.is_main_process:
        set_aside_later(output_dir, run.step)
    run.accelerator.wait_for_everyone()
    to = start.path.name if start.path else TO_THE_BEGINNING
    rate = run.config.train.learning_rate * run.stepper.rate_scale
    return f"went back to {to}; the learning rate's peak is now {rate:.3g}"
