"""Streams that nobody reads, or that cannot be written; terminals that go, or are like none."""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess

from attacking.command import CLOSED, Command
from attacking.part import Draw, Part, nap, until
from attacking.place import Place

ODD: dict[str, tuple[str, ...]] = {
    "COLUMNS": ("0", "1", "-5", "x", "99999999", ""),
    "LINES": ("0", "-1", "x"),
    "TERM": ("", "dumb", "nothing", "xterm-256color", "../../x"),
    "LANG": ("C", "xx_YY.UTF-8", "tr_TR.UTF-8", ""),
    "LC_ALL": ("C", "POSIX", "de_DE.ISO-8859-1"),
    "PYTHONIOENCODING": ("ascii", "latin-1", "utf-16", "ascii:strict", "no-such"),
    "PYTHONUTF8": ("0", "1"),
    "NO_COLOR": ("1", ""),
    "FORCE_COLOR": ("0", ""),
    "PYTHONUNBUFFERED": ("1",),
    "PYTHONWARNINGS": ("always", "error"),
    "PYTHONDONTWRITEBYTECODE": ("1",),
}
NO_START = ("no-such", "utf-16")
"""Encodings with which Python itself does not begin, or speaks what is no text here."""


def draw(chance: Draw, _task: str) -> Part | None:
    """What is at the other end."""
    numbers = chance.choice(((1,), (2,), (1, 2), (0, 1, 2)))
    kind = chance.choice(("closed", "full", "reader", "terminal", "odd", "odd"))
    names = ", ".join(str(number) for number in numbers)
    if kind == "odd":
        name = chance.choice(sorted(ODD))
        value = chance.choice(ODD[name])
        return Part("pipes", f"{name}={value!r}", environment={name: value}, is_fresh=value not in NO_START)
    if kind in ("closed", "full"):
        place = CLOSED if kind == "closed" else "/dev/full"
        return Part("pipes", f"{names}: {place}", streams=lambda _: dict.fromkeys(numbers, place))
    if kind == "terminal":
        after = chance.random() * 3
        around, during = _terminal()
        what = f"a terminal that hangs up after {after:.2f} s"
        return Part("pipes", what, streams=around, during=partial(during, after=after), statuses=(-1,))
    num_bytes, goes = chance.choice((0, 1, 50, 500, 5000)), chance.random() < 0.6
    what = f"{names}: a reader of {num_bytes} bytes, which then {'goes' if goes else 'stops reading'}"
    streams = partial(_pipe, numbers=[number for number in numbers if number], num_bytes=num_bytes, goes=goes)
    return Part("pipes", what, streams=streams)


def _pipe(place: Place, *, numbers: list[int], num_bytes: int, goes: bool) -> Mapping[int, str]:
    """A named pipe with a reader."""
    path = place.log / "pipe"
    os.mkfifo(path)

    def read() -> None:
        with path.open("rb", buffering=0) as pipe:
            left = num_bytes
            while left > 0 and (data := pipe.read(left)):
                left -= len(data)
            if not goes:
                threading.Event().wait(240)

    threading.Thread(target=read, daemon=True).start()
    return dict.fromkeys(numbers, str(path))


def _terminal() -> tuple:  # type: ignore[type-arg]  # two functions that share the terminal
    """A terminal, read until it hangs up."""
    ends: list[int] = []

    def streams(_place: Place) -> Mapping[int, str]:
        ends[:] = pty.openpty()
        return dict.fromkeys((0, 1, 2), os.ttyname(ends[1]))

    def during(_place: Place, command: Command, process: BaseProcess, *, after: float) -> None:
        until(lambda: command.begun, process)
        reader = threading.Thread(target=_drain, args=(ends[0],), daemon=True)
        reader.start()
        nap(process, after)
        for end in ends:
            os.close(end)

    return streams, during


def _drain(end: int) -> None:
    with suppress(OSError):
        while os.read(end, 65_536):
            pass
