"""The speed of a run: audio seconds per second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from runyoro_ssl.train.stopping import clock


@dataclass
class Stopwatch:
    """Audio seconds per second of training, and the share of it spent waiting for data.

    Validation and the taking of checkpoints are paused out; so is sleep, by the clock that is read.
    """

    audio_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    wait_seconds: float = 0.0
    _since: float = field(default_factory=clock.now, init=False)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        start = clock.now()
        yield
        self.wait_seconds += clock.now() - start

    def pause(self) -> None:
        """Stop counting time for a while."""
        self.elapsed_seconds += clock.now() - self._since

    def go_on(self) -> None:
        """Count time again."""
        self._since = clock.now()

    def lap(self) -> tuple[float, float]:
        """Give audio seconds per second and the waiting share since the last lap, and start anew. Not while paused."""
        self.pause()
        elapsed = max(self.elapsed_seconds, 1e-9)
        result = self.audio_seconds / elapsed, self.wait_seconds / elapsed
        self.audio_seconds = self.elapsed_seconds = self.wait_seconds = 0.0
        self.go_on()
        return result
