"""What goes wrong in an attack: a part, before, around or during a task."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from attacking.command import Command
from attacking.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

TRAINING = ("train", "resume")
TASKS = (*TRAINING, "prepare", "manifest", "evaluate", "embed", "runs", "publish", "doctor")
Draw = random.Random


@dataclass(frozen=True)
class Part:
    """One thing that goes wrong.

    `before` changes the place; `around` holds while the task runs; `during` acts on the running process; `words` and
    `environment` are added to the command line's (None takes a variable away). `keeps`: what is learned is the same,
    and the same command without this part goes on to it. `statuses` may come beside the documented ones.
    `touches`: names in the place that the attack itself changes. `saves`: it must have saved all that it had logged.
    """

    family: str
    what: str
    before: Callable[[Place], None] | None = None
    around: Callable[[Place], AbstractContextManager[None]] | None = None
    during: Callable[[Place, Command, BaseProcess], None] | None = None
    words: Sequence[str] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    streams: Callable[[Place], Mapping[int, str]] | None = None
    limits: Sequence[tuple[int, int]] = ()
    umask: int | None = None
    is_fresh: bool = False
    keeps: bool = True
    saves: bool = False
    statuses: tuple[int, ...] = ()
    touches: tuple[str, ...] = ()


def until(condition: Callable[[], bool], process: BaseProcess, *, limit_sec: float = 30) -> bool:
    """Wait for something to be so; False where the process ended before, or it took too long."""
    end = time.monotonic() + limit_sec
    while not condition():
        if not process.is_alive() or time.monotonic() > end:
            return False
        time.sleep(0.003)
    return True


def nap(process: BaseProcess, seconds: float) -> None:
    """Wait, but no longer than the process lives."""
    process.join(seconds)


def steps_logged(place: Place) -> int:
    """How many lines metrics.jsonl has."""
    path = place.run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def phases(place: Place, draw_step: int) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Moments of a training run, and how each is seen from outside."""
    at_start = steps_logged(place)
    yield "before the first step", (place.run / "run.lock").exists
    yield "in a step", lambda: steps_logged(place) > at_start + draw_step
    yield "in a save", lambda: any(place.run.glob(".tmp-checkpoint-*"))
    yield "in the final save", lambda: any((place.run / name).exists() for name in ("checkpoint-12", "config.json"))


PHASES = ("at once", "before the first step", "in a step", "in a save", "in the final save")


def await_phase(phase: str, place: Place, command: Command, process: BaseProcess, *, step: int) -> None:
    """Wait for a moment of a run; of other tasks, for their beginning."""
    until(lambda: command.begun, process)
    conditions = dict(phases(place, step))
    if phase in conditions and command.words[0] == "train":
        until(conditions[phase], process)
