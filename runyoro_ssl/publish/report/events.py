"""What happened to a run on its way, in words: alarms, ways back, resumes, sleeps of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runyoro_ssl.page.amounts import amount_of_time, number, plural
from runyoro_ssl.page.lines import Mark
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.health import journal

MAX_SHOWN = 12
"""Events with a number in the pictures; the others are counted."""
WEIGHTY = ("went back", "stopped", "ended early", "went on", "slept", "alarm", "left out")
"""Kinds, what should be shown first where there are too many."""
OF_ACTION = {"go_back": "went back", "stop": "stopped", "finish": "ended early", "skip": "left out"}


@dataclass(frozen=True)
class Happening:
    """Something that happened to a run: its step, its kind, and what is to be said of it."""

    step: int
    kind: Literal["went back", "stopped", "ended early", "went on", "slept", "alarm", "left out"]
    words: str
    advice: str = ""


@dataclass(frozen=True)
class Course:
    """What happened, in its order, as far as it is shown; how much is not; steps of the checkpoints that are kept."""

    shown: Sequence[Happening] = ()
    num_others: int = 0
    checkpoints: Sequence[int] = ()

    def marks(self, best_step: int | None) -> list[Mark]:
        """The marks of a curve over steps."""
        of_events = [
            Mark(one.step, str(place), f"Step {number(one.step)}: {one.kind}. {one.words}")
            for place, one in enumerate(self.shown, 1)
        ]
        of_checkpoints = [
            Mark(step, "", f"Step {number(step)}: a checkpoint that is kept", "point")
            for step in self.checkpoints
            if step != best_step
        ]
        best = [] if best_step is None else [Mark(best_step, "", f"Step {number(best_step)}: the best model", "star")]
        return of_events + of_checkpoints + best


def read_course(folder: Path) -> Course:
    """What happened to a run, from its journal and its checkpoints. Names of clips and files are not told."""
    lines = journal.read(folder)
    begin = next((place for place, line in enumerate(lines) if line.get("event") == journal.BEGUN), None)
    told = [_tell(line) for place, line in enumerate(lines) if place != begin]
    found = [one for one in told if one is not None]
    ranked = sorted(range(len(found)), key=lambda place: (WEIGHTY.index(found[place].kind), place))
    shown = [found[place] for place in sorted(ranked[:MAX_SHOWN])]
    return Course(shown, len(found) - len(shown), [step for step, _ in list_checkpoints(folder)])


def planned_steps(folder: Path) -> int | None:
    """How many steps the run has, as it said when it started last; None where it did not say."""
    said = [line.get("total_steps") for line in journal.read(folder) if line.get("event") == journal.BEGUN]
    return said[-1] if said and isinstance(said[-1], int) else None


def _tell(line: Mapping[str, Any]) -> Happening | None:
    step = line.get("step")
    if not isinstance(step, int):
        return None
    if line.get("event") == journal.BEGUN:
        return Happening(step, "went on", f"The run was stopped, and went on from step {number(step)}.")
    if line.get("event") == journal.SLEPT:
        slept = amount_of_time(float(line.get("seconds", 0)))
        return Happening(step, "slept", f"The machine slept for {slept}; nothing is lost by that.")
    if "kind" not in line:
        return None
    kind: Any = OF_ACTION.get(str(line.get("action")), "alarm")
    seen, means, done = (_sentence(line.get(part)) for part in ("seen", "means", "done"))
    name = str(line["kind"]).replace("_", " ")
    return Happening(
        step, kind, " ".join(filter(None, (_sentence(name), seen, means, done))), _sentence(line.get("try"))
    )


def _sentence(text: Any) -> str:
    words = str(text or "").strip()
    return f"{words[0].upper()}{words[1:].removesuffix('.')}." if words else ""


def others(course: Course) -> str:
    """What is said of events that are not shown."""
    if not course.num_others:
        return ""
    return f"{plural(course.num_others, 'more event')} of less weight: {journal.NAME} in the run's folder has all."
