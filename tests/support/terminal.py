"""A terminal without a screen: a command runs in it, and what a person could then read in it, scrolled up, is given."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyte

ROWS, HISTORY = 24, 100_000


@dataclass(frozen=True)
class Shown:
    """The lines of a terminal at the end, without what was erased; long lines are wrapped, as there.

    `frames`: the last line after each write, where a bar is.
    """

    lines: list[str]
    frames: list[str]
    status: int

    @property
    def text(self) -> str:
        """All of it with the wrapping undone: as it would be copied."""
        return "".join(self.lines)


def show(command: Sequence[str], *, columns: int) -> Shown:
    """Run a command in a terminal of so many columns, to its end."""
    screen = pyte.HistoryScreen(columns, ROWS, history=HISTORY, ratio=0.5)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        os.environ["TERM"] = "xterm-256color"
        for name in ("COLUMNS", "LINES", "CI", "NO_COLOR"):
            os.environ.pop(name, None)
        os.execvp(command[0], list(command))  # noqa: S606 - a terminal needs no shell
    frames: list[str] = []
    with suppress(OSError):  # the terminal of a process that has ended
        while data := os.read(terminal, 65_536):
            stream.feed(data)
            frames.append(screen.display[screen.cursor.y])
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    above = ["".join(line[column].data for column in range(columns)) for line in screen.history.top]
    return Shown([*above, *screen.display], frames, os.waitstatus_to_exitcode(status))
