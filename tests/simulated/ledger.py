"""The ledger of a simulation: what the device did, written beside the run, by nobody who could forget it."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from simulated.clock import SimulatedClock

ENTRY = struct.Struct("<IBBd")


def course_of(rate_scale: float) -> int:
    """How often the run had gone back: each time halves the rate."""
    return round(-math.log2(rate_scale))


@dataclass(frozen=True)
class Entry:
    """An update that the device has computed; `is_nan`: a number of it was none. `time`: when it was over."""

    step: int
    course: int
    is_nan: bool
    time: float


class Ledger:
    """The ledger's file: what is noted is there, whatever becomes of the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._read = 0

    def note_step(self, step: int, course: int, kind: str | None, clock: SimulatedClock) -> None:
        """Note an update."""
        os.write(self._file, ENTRY.pack(step, course, kind is not None, clock.monotonic()))

    def read_new(self) -> Iterator[Entry]:
        """What was noted since the last time, by any process."""
        data = os.pread(self._file, 1 << 30, self._read)
        self._read += len(data)
        for step, course, is_nan, time in ENTRY.iter_unpack(data):
            yield Entry(step, course, bool(is_nan), time)
