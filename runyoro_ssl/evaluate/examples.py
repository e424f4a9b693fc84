"""Units to hear: where in the held-out speech the most frequent ones are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.evaluate.grid import GRID
from runyoro_ssl.evaluate.heard.clips import HeldOut
from runyoro_ssl.evaluate.labels.frames import frame_labels

NUM_UNITS, NUM_STRETCHES = 12, 5
AROUND_FRAMES = 8
"""Of what is before and after a unit, to be heard with it: a unit alone is as short as a click."""


@dataclass(frozen=True)
class HeardStretch:
    """A stretch of one unit: float32 (T,), with a little of what is around.

    `row` is that of its clip, in the split that was heard, from 0; `at_sec` is where the unit begins in the clip;
    `begin_sec` and `end_sec` are where it is in the waveform.
    """

    waveform: np.ndarray
    row: int
    at_sec: float
    begin_sec: float
    end_sec: float


@dataclass(frozen=True)
class HeardUnit:
    """A unit: its number, the share of frames that it has, and where it was heard longest.

    `phones`: the phones that it is, the most frequent first, with their shares of its frames in clips that have labels;
    "" is where no phone is. Without labels, none.
    """

    unit: int
    share: float
    stretches: Sequence[HeardStretch]
    phones: Sequence[tuple[str, float]] = ()


def heard_units(
    units: dict[int, np.ndarray], held_out: HeldOut, phones: Sequence[Sequence[Phone] | None] | None
) -> list[HeardUnit]:
    """The most frequent units of clips, by their index, with their longest stretches, each of another clip."""
    counts = Counter(np.concatenate(list(units.values())).tolist())
    total = sum(counts.values())
    found = []
    for unit, count in counts.most_common(NUM_UNITS):
        longest = sorted((_longest(of == unit), index) for index, of in units.items())[::-1]
        stretches = [
            _cut(held_out, index, first, length) for (length, first), index in longest[:NUM_STRETCHES] if length
        ]
        found.append(HeardUnit(unit, count / total, stretches, _phones_of(unit, units, phones)))
    return found


def _longest(is_unit: np.ndarray) -> tuple[int, int]:
    """The length and the beginning of the longest stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_unit.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    place = int(np.argmax(lengths))
    return int(lengths[place]), int(edges[::2][place])


def _cut(held_out: HeldOut, index: int, first: int, length: int) -> HeardStretch:
    """A stretch of frames of a clip, from the middle between its first frame and the one before."""
    before = min(first, AROUND_FRAMES)
    begin, end = (first - before) * GRID.stride, GRID.num_samples(first + length + AROUND_FRAMES)
    edge_sec = (GRID.receptive - GRID.stride) / 2 / GRID.sample_rate
    at_sec = first * GRID.frame_sec + edge_sec
    begin_sec = before * GRID.frame_sec + edge_sec
    waveform = held_out.waveform(index)[begin:end]
    return HeardStretch(waveform, held_out.clips[index].row, at_sec, begin_sec, begin_sec + length * GRID.frame_sec)


def _phones_of(
    unit: int, units: dict[int, np.ndarray], phones: Sequence[Sequence[Phone] | None] | None
) -> list[tuple[str, float]]:
    if phones is None:
        return []
    seen: Counter[str] = Counter()
    for index, of in units.items():
        if phones[index] is not None:
            labels = frame_labels(phones[index], len(of))
            seen.update(label or "" for label, found in zip(labels, of.tolist(), strict=True) if found == unit)
    return [(phone, count / seen.total()) for phone, count in seen.most_common()]
