"""Signals at any moment, one or two, to the process or to all of its group."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess

from attacking.command import Command
from attacking.part import AT_ONCE, TRAINING, Draw, Part, await_phase, nap, phases_of
from attacking.place import Place

SAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU)
NUMBERS = (*SAVING, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP, signal.SIGKILL, signal.SIGWINCH)

SETTLE_SEC = 0.5
"""Python's own start answers signals as Python does."""


def draw(chance: Draw, task: str) -> Part | None:
    """Which, when, and to whom."""
    sent = [chance.choice(NUMBERS) for _ in range(chance.choice((1, 1, 1, 2)))]
    phase = chance.choice(phases_of(task))
    to_group = chance.random() < 0.4
    pause, gap = (
        chance.choice((0.0, chance.random() * (4 if len(phases_of(task)) == 1 else 0.3))),
        chance.random() * 0.4,
    )
    pause += SETTLE_SEC if phase == AT_ONCE else 0
    names = " ".join(number.name for number in sent)
    what = f"{names} {phase} + {pause:.2f} s{', to the group' if to_group else ''}"
    ends = [number for number in sent if number not in (signal.SIGTSTP, signal.SIGWINCH)]
    statuses = [-number for number in sent if number in (signal.SIGQUIT, signal.SIGKILL)]
    if phase == AT_ONCE:  # before our own code has begun
        statuses += [-number for number in ends]
    during = partial(_send, sent=sent, phase=phase, pause=pause, gap=gap, to_group=to_group, step=chance.randrange(3))
    saves = task in TRAINING and len(ends) == 1 and ends[0] in SAVING and phase != AT_ONCE
    return Part("signals", what, during=during, statuses=tuple(statuses), saves=saves)


def _send(
    place: Place,
    command: Command,
    process: BaseProcess,
    *,
    sent: Sequence[signal.Signals],
    phase: str,
    pause: float,
    gap: float,
    to_group: bool,
    step: int,
) -> None:
    await_phase(phase, place, command, process, step=step)
    nap(process, pause)
    for number in sent:
        _kill(process, number, to_group=to_group)
        nap(process, gap)
        if number == signal.SIGTSTP:
            _kill(process, signal.SIGCONT, to_group=True)


def _kill(process: BaseProcess, number: int, *, to_group: bool) -> None:
    if not process.is_alive() or process.pid is None:
        return
    with suppress(ProcessLookupError):
        if to_group:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
