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
class HeardUnit:
    """A unit: its number, the share of frames that it has, what it mostly is, and where it was heard.

    `waveforms`: float32 (T,) each, with a little of what is around. `phone`: the phone that most of its frames have,
    and their share; None without labels.
    """

    unit: int
    share: float
    waveforms: Sequence[np.ndarray]
    phone: tuple[str, float] | None = None


def heard_units(
    units: dict[int, np.ndarray], held_out: HeldOut, phones: Sequence[Sequence[Phone] | None] | None
) -> list[HeardUnit]:
    """The most frequent units of clips, by their index, with their longest stretches, each of another clip."""
    counts = Counter(np.concatenate(list(units.values())).tolist())
    total = sum(counts.values())
    found = []
    for unit, count in counts.most_common(NUM_UNITS):
        longest = sorted((_longest(of == unit), index) for index, of in units.items())[::-1]
        waveforms = [
            _cut(held_out.waveform(index), first, length)
            for (length, first), index in longest[:NUM_STRETCHES]
            if length
        ]
        found.append(HeardUnit(unit, count / total, waveforms, _mostly(unit, units, phones)))
    return found


def _longest(is_unit: np.ndarray) -> tuple[int, int]:
    """The length and the beginning of the longest stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_unit.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    place = int(np.argmax(lengths))
    return int(lengths[place]), int(edges[::2][place])


def _cut(waveform: np.ndarray, first: int, length: int) -> np.ndarray:
    begin = max(0, (first - AROUND_FRAMES) * GRID.stride)
    return waveform[begin : GRID.num_samples(first + length + AROUND_FRAMES)]


def _mostly(
    unit: int, units: dict[int, np.ndarray], phones: Sequence[Sequence[Phone] | None] | None
) -> tuple[str, float] | None:
    if phones is None:
        return None
    seen: Counter[str] = Counter()
    for index, of in units.items():
        labels = frame_labels(phones[index], len(of))
        seen.update(label for label, found in zip(labels, of.tolist(), strict=True) if found == unit and label)
    if not seen:
        return None
    (phone, count) = seen.most_common(1)[0]
    return phone, count / sum(seen.values())
