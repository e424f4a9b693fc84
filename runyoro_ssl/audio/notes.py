"""What is noticed while a recording is decoded: flaws, its gain, and gaps where its numbers are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError

CELL_SEC = 0.1
"""What one bad number costs."""
LARGEST = 1e10
"""A float beyond is no sound: even 32-bit integers written as floats stay below."""


@dataclass
class Notes:
    """Filled while a stream is read: `flaws` at its end, `gain` at its start, `gaps` before what is around them."""

    flaws: list[AudioError] = field(default_factory=list)
    gain: float = 1.0
    """What the samples were multiplied by."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """Silence that stands for NaN, infinity and the like: (start, stop), seconds from the stream's start."""

    def gaps_at(self, sample_rate: int) -> list[tuple[int, int]]:
        """The gaps in samples at a rate, none too short."""
        return [(int(start * sample_rate), -int(-stop * sample_rate // 1)) for start, stop in self.gaps]

    @property
    def lost_sec(self) -> float:
        """Seconds in gaps."""
        return sum(stop - start for start, stop in self.gaps)

    @property
    def gap_flaw(self) -> AudioError | None:
        """The gaps in words."""
        if not self.gaps:
            return None
        detail = f"{self.lost_sec:.1f} s without a number (NaN or infinity), first at second {self.gaps[0][0]:.1f}"
        return AudioError(Reason.NON_FINITE, detail)


def silence_gaps(blocks: Iterator[np.ndarray], sample_rate: int, notes: Notes) -> Iterator[np.ndarray]:
    """Give the blocks (T,), with silence in every tenth of a second that holds a bad number, which is noted."""
    num_before = 0
    for block in blocks:
        if len(block) and not (float(block.max()) <= LARGEST and float(block.min()) >= -LARGEST):
            block = block.copy()  # noqa: PLW2901 - the same block, mended
            for start, stop in _bad_stretches(block, num_before, max(1, round(CELL_SEC * sample_rate))):
                block[start:stop] = 0.0
                _note(notes.gaps, (num_before + start) / sample_rate, (num_before + stop) / sample_rate)
        num_before += len(block)
        yield block


def _bad_stretches(block: np.ndarray, first: int, cell: int) -> Iterator[tuple[int, int]]:
    """The cells of a stream, as parts of a block that begins at its sample `first`, which hold a bad number."""
    bad = np.flatnonzero(~(np.abs(block) <= LARGEST))
    for number in np.unique((first + bad) // cell):
        yield max(0, int(number) * cell - first), min(len(block), (int(number) + 1) * cell - first)


def _note(gaps: list[tuple[float, float]], start: float, stop: float) -> None:
    if gaps and gaps[-1][1] == start:
        gaps[-1] = gaps[-1][0], stop
    else:
        gaps.append((start, stop))
