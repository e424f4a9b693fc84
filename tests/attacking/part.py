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

MIX = " mix"
"""Ends the name of a task whose run learns from several datasets."""
TRAINING = ("train", "resume", f"train{MIX}", f"resume{MIX}")
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


AT_ONCE = "at once"
OF_A_RUN = ("before the first step", "in a step", "in a save", "in the final save", "while models are compared")
OF_DONORS = ("before it hears", "while it hears", "while it writes")
OF_CONVERT = ("while it converts",)


def command_of(task: str) -> str:
    """The word on the command line."""
    return "train" if task in TRAINING else "convert" if task == "hear" else task.removesuffix(MIX)


def phases_of(task: str) -> tuple[str, ...]:
    """The moments of a task that can be waited for; the first is its beginning."""
    later = {"train": OF_A_RUN, "donors": OF_DONORS, "convert": OF_CONVERT}
    return (AT_ONCE, *later.get(command_of(task), ()))


def _signs(place: Place, draw_step: int) -> Iterator[tuple[str, Callable[[], bool]]]:
    """How each moment is seen from outside."""
    at_start = steps_logged(place)
    yield "before the first step", (place.run / "run.lock").exists
    yield "in a step", lambda: steps_logged(place) > at_start + draw_step
    yield "in a save", lambda: any(place.run.glob(".tmp-checkpoint-*"))
    yield "in the final save", lambda: any((place.run / name).exists() for name in ("checkpoint-12", "config.json"))
    yield "while models are compared", lambda: any(place.run.glob(".tmp-*/config.json"))
    yield "before it hears", place.made.joinpath("chosen.shards").exists
    yield "while it hears", lambda: any(place.folder.glob("tmp/cache/units-*"))
    yield "while it writes", place.made.joinpath("chosen.shards/finished").exists
    yield "while it converts", place.made.joinpath(".tmp-converted").exists


def await_phase(phase: str, place: Place, command: Command, process: BaseProcess, *, step: int) -> None:
    """Wait for a moment of a task."""
    until(lambda: command.begun, process)
    if phase != AT_ONCE:
        until(dict(_signs(place, step))[phase], process)
