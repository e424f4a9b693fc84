"""What a process left is looked at when it has ended: nothing is lost beyond what docs/training.md promises."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runyoro_ssl.builtins.loggers import METRICS, TENSORBOARD
from runyoro_ssl.disk.durable import TRASH
from runyoro_ssl.disk.temporary import TEMPORARY
from runyoro_ssl.processes import LOADER_PATIENCE_SEC
from runyoro_ssl.train.checkpoints.format import PREFIX
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.disk_space import folder_bytes
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.intervals import Intervals
from simulated.disk import KILLED
from simulated.faults import GRACE_SEC, SAVE_SEC, STEP_SEC, STEP_SPREAD, Span
from simulated.ledger import Entry, Ledger
from simulated.life import BUG, FINISHED, REFUSED, STOPPED, Life, Machine
from simulated.reference import Lineage, Reference
from support.trainer import damaged

LONGEST_STEP_SEC = STEP_SEC * (1 + STEP_SPREAD)
PROMISED_SEC = 15 * 60.0
"""What a power cut may cost at most, as README has it."""
RETRY_SEC = 60.0
"""After so long a checkpoint that found the disk full is tried again."""
MOST_CHECKPOINTS = 3
"""Beside those of `--save-total-limit`: the best, the last healthy one, that from before codes became fewer."""


@dataclass
class Counts:
    """What a simulation came to."""

    lives: Counter[int] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    computed: int = 0
    lost_sec: list[float] = field(default_factory=list)
    """Of learning that each killed process lost, while the disk had room."""
    after_signal_sec: list[float] = field(default_factory=list)
    most_names: int = 0
    most_bytes: int = 0
    most_mib: float = 0.0
    cpu_sec: float = 0.0


class Audit:
    """The one who looks, after each process and at the end. `wrong`: what broke a promise, in words."""

    def __init__(self, machine: Machine, reference: Reference, intervals: Intervals, ledger: Ledger) -> None:
        self._machine, self._reference, self._intervals, self._ledger = machine, reference, intervals, ledger
        self._out, self._faults = machine.config.train.output_dir, machine.faults
        self._lineage = Lineage()
        self._saved = 0
        self._num_events = 0
        self.counts = Counts()
        self.wrong: list[str] = []

    def look(self, life: Life) -> None:
        """Look at what a process left."""
        counts, entries = self.counts, list(self._ledger.read_new())
        counts.lives[life.status] += 1
        counts.computed += len(entries)
        counts.cpu_sec += life.cpu_sec
        counts.most_mib = max(counts.most_mib, life.max_mib)
        counts.happened["calls refused by a full disk"] += life.num_refused
        self._check_status(life)
        self._check_order(entries, life)
        saved = dict(list_checkpoints(self._out)) if self._out.is_dir() else {}
        newest = max(saved, default=0)
        self._check_saved(life, entries, newest)
        self._lineage.cut(newest)
        self._check_files(life, saved)
        self._reference.go_to(self._lineage.courses)
        if newest and (problem := self._reference.differs(saved[newest])):
            self._say(life, problem)
        self._check_journal(life, entries)
        self._saved = newest

    def finish(self) -> None:
        """Look at a finished run as a whole."""
        total = self._intervals.total_steps
        if len(self._lineage.courses) != total:
            self.wrong.append(f"{len(self._lineage.courses)} of {total} updates were learned")
        self.wrong += list(wrong_lines(self._out, self._reference, self._intervals))

    def _say(self, life: Life, problem: str) -> None:
        self.wrong.append(f"process of {life.started:,.0f} to {life.ended:,.0f} s, status {life.status}: {problem}")

    def _check_status(self, life: Life) -> None:
        if life.status == BUG or life.status not in (FINISHED, STOPPED, REFUSED, KILLED):
            self._say(life, "a traceback, in the log")
        if life.status == STOPPED and life.signalled is None:
            self._say(life, "it stopped, and nobody had asked it to")
        if life.status == REFUSED and not self._is_hindered(life):
            self._say(life, "it ended with an error, and neither disk nor share was to blame")
        if life.signalled is not None:
            self.counts.after_signal_sec.append(life.ended - life.signalled)
            if life.status == KILLED and life.ended - life.signalled >= GRACE_SEC:
                self._say(life, f"it had not ended {GRACE_SEC:.0f} s after the signal")

    def _is_hindered(self, life: Life) -> bool:
        """Whether an error may end a process: by a full disk at its end, or a share that hung twice."""
        hung = [_overlap(span, life.started, life.ended) for span in self._faults.hangs]
        replaced = sum(int(seconds // (LOADER_PATIENCE_SEC - 1)) for seconds in hung if seconds > 0)
        return replaced > 1 or self._was_full(life.ended - SAVE_SEC - RETRY_SEC - 60, life.ended)

    def _was_full(self, start: float, end: float) -> bool:
        return any(_overlap(span, start, end) > 0 for span in self._faults.full)

    def _check_order(self, entries: list[Entry], life: Life) -> None:
        """Each update of the plan follows the one before; the first follows the newest checkpoint."""
        for entry in entries:
            if problem := self._lineage.add(entry.step, entry.course):
                self._say(life, problem)

    def _check_saved(self, life: Life, entries: list[Entry], newest: int) -> None:
        """What was learned after the newest checkpoint is lost: nothing after a signal, little after a kill."""
        if newest < self._saved and not any(entry.step <= self._saved for entry in entries):
            self._say(life, f"checkpoint {self._saved} is gone, {newest} is the newest")
        lost = [entry for entry in entries if entry.step > newest and entry.time >= self._course_began(entries)]
        lost_sec = STEP_SEC * len(lost)
        if life.status in (FINISHED, STOPPED) and lost:
            self._say(life, f"{len(lost)} updates after checkpoint {newest} are lost, and it ended by itself")
        if life.status not in (KILLED, REFUSED):
            return
        if lost and self._was_full(lost[0].time - 2 * SAVE_SEC - RETRY_SEC, life.ended):
            return
        if entries:
            self.counts.lost_sec.append(lost_sec)
        if life.status == REFUSED and lost:
            self._say(life, f"{len(lost)} updates are lost by an error")
        most = min(PROMISED_SEC / STEP_SEC, self._intervals.save) + 2 * SAVE_SEC / STEP_SEC + 2
        span = life.ended - lost[0].time if lost else 0.0
        if len(lost) > most and span > PROMISED_SEC + SAVE_SEC + LONGEST_STEP_SEC:
            self._say(life, f"{len(lost)} updates of {span:.0f} s are lost after checkpoint {newest}")

    def _course_began(self, entries: list[Entry]) -> float:
        """The time of the first update of the last course: what was left by going back is not lost."""
        return next((entry.time for entry in entries if entry.course == entries[-1].course), 0.0)

    def _check_files(self, life: Life, saved: dict[int, Path]) -> None:
        if not self._out.is_dir():
            return
        names = [path.name for path in self._out.iterdir()]
        self.counts.most_names = max(self.counts.most_names, len(names))
        self.counts.most_bytes = max(self.counts.most_bytes, folder_bytes(self._out))
        self.wrong += damaged(self._out)
        half = [name for name in names if name.startswith((TEMPORARY, TRASH))]
        if half and life.status in (FINISHED, STOPPED):
            self._say(life, f"it left {', '.join(half)}")
        limit = self._machine.config.train.save_total_limit
        if len(saved) > limit + MOST_CHECKPOINTS + (life.status == KILLED):
            self._say(life, f"{len(saved)} checkpoints are kept")
        unknown = [name for name in names if name.startswith("damaged-")]
        if unknown:
            self._say(life, f"{', '.join(unknown)} was damaged")
        self.counts.happened["superseded"] = sum(name.startswith(f"superseded-{PREFIX}") for name in names)

    def _check_journal(self, life: Life, entries: list[Entry]) -> None:
        """Its start, each update of no numbers, each sleep, as they were; the file can be read to its end."""
        path = self._out / journal.NAME
        if not path.exists():
            return
        events = journal.read(self._out)
        if len(events) != len(path.read_bytes().splitlines()):
            self._say(life, f"{journal.NAME} has lines that cannot be read")
        new, self._num_events = events[self._num_events :], len(events)
        begun = [event["step"] for event in new if event.get("event") == journal.BEGUN]
        if entries and begun != [entries[0].step - 1]:
            self._say(life, f"it began after step {entries[0].step - 1}, the journal says {begun}")
        alarms = [event["step"] for event in new if event.get("kind") == "non_finite_update"]
        computed = [entry.step for entry in entries if entry.is_nan]
        was_full = self._was_full(life.started, life.ended)
        if alarms != computed and not (was_full and life.status != STOPPED and alarms == computed[: len(alarms)]):
            self._say(life, f"steps {computed} gave no numbers, the journal says {alarms}")
        self.counts.happened["alarms"] += len([event for event in new if "kind" in event])
        backs = [event for event in new if event.get("action") == "go_back"]
        self.counts.happened["roll-backs"] += len(backs)
        self._check_backs(life, entries, backs)
        self._check_sleep(life, new)

    def _check_backs(self, life: Life, entries: list[Entry], backs: list[dict[str, Any]]) -> None:
        for back in backs:
            to = int(back["done"].partition(f"{PREFIX}")[2].partition(";")[0] or 0)
            at = [index for index, entry in enumerate(entries) if entry.step == back["step"] and entry.is_nan]
            if at and at[-1] + 1 < len(entries) and entries[at[-1] + 1].step != to + 1:
                self._say(life, f"it went back to step {to}, and on from {entries[at[-1] + 1].step}")

    def _check_sleep(self, life: Life, new: list[dict[str, Any]]) -> None:
        told = sum(event["seconds"] for event in new if event.get("event") == journal.SLEPT)
        slept = [seconds for time, seconds in self._faults.sleeps if life.started <= time < life.ended]
        self.counts.happened["sleeps"] += len(slept)
        if told > sum(slept) + 1 or (life.status in (FINISHED, STOPPED) and told < max(slept, default=0) - 1):
            early = any(time < life.started + 90 or time > life.ended - 90 for time, _ in self._faults.sleeps)
            if told > sum(slept) + 1 or not early:
                self._say(life, f"the machine slept {sum(slept):.0f} s, the journal says {told}")


def _overlap(span: Span, start: float, end: float) -> float:
    return min(span.end, end) - max(span.start, start)


def wrong_lines(out: Path, reference: Reference, intervals: Intervals) -> list[str]:
    """What is wrong with the numbers that were logged: each update counts in one line, each validation once."""
    wrong, last, validated = [], 0, []
    for number, line in enumerate((out / METRICS).read_bytes().splitlines(), 1):
        numbers = json.loads(line)
        step = numbers["step"]
        if "eval/contrastive_loss" in numbers:
            validated.append(step)
            if abs(numbers["eval/contrastive_loss"] - reference.validated[step]) > 1e-5:
                wrong.append(f"{METRICS} line {number}: validation of another model than that of step {step}")
            continue
        if step <= last:
            wrong.append(f"{METRICS} line {number}: step {step} after step {last}")
        counted = reference.sums[last + 1 : step + 1]
        masked, losses = sum(masked for masked, _ in counted), sum(loss for _, loss in counted)
        mean = losses / masked if masked else None
        shown = numbers["train/contrastive_loss"]
        if (mean is None) != (shown is None) or (mean is not None and abs(shown - mean) > 1e-4):
            wrong.append(f"{METRICS} line {number}: loss {shown} of steps {last + 1} to {step}, which have {mean}")
        last = step
    wanted = [0, *(step for step in range(1, intervals.total_steps + 1) if intervals.is_validated(step))]
    if validated != wanted:
        wrong.append(f"validations of {validated}, which were to be of {wanted}")
    return wrong


def event_files(out: Path) -> int:
    """TensorBoard's files: one for each time that it was opened."""
    return sum(1 for _ in (out / TENSORBOARD).iterdir())
