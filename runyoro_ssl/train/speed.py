"""The speed of a run: audio seconds per second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Audio seconds per second of training, and the share of it spent waiting for data.

    Validation and the taking of checkpoints are paused out. So is sleep: Python's performance counter stands still
    while the machine sleeps (CLOCK_MONOTONIC on Linux, mach_absolute_time on macOS).
    """

    audio_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    wait_seconds: float = 0.0
    _since: float = field(default_factory=time.perf_counter, init=False)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        start = time.perf_counter()
        yield
        self.wait_seconds += time.perf_counter() - start

    def pause(self) -> None:
        """Stop counting time for a while."""
        self.elapsed_seconds += time.perf_counter() - self._since

    def go_on(self) -> None:
        """Count time again."""
        self._since = time.perf_counter()

    def lap(self) -> tuple[float, float]:
        """Give audio seconds per second and the waiting share since the last lap, and start anew. Not while paused."""
        self.pause()
        elapsed = max(self.elapsed_seconds, 1e-9)
        result = self.audio_seconds / elapsed, self.wait_seconds / elapsed
        self.audio_seconds = self.elapsed_seconds = self.wait_seconds = 0.0
        self.go_on()
        return result
