"""How near each clip, speaker and language of the pools is to the target, between two yardsticks of the target itself.

The target that is heard is halved. One half is compared with: units are found on it. The other half says what is as
near as can be; and with its units in random order, clip by clip, how near sounds alone are, in no order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.donors.hearing import Ear
from runyoro_ssl.donors.pools import Candidates
from runyoro_ssl.donors.similarity import MIN_PAIRS, TargetPairs, collapse, pairs
from runyoro_ssl.errors import DonorsError
from runyoro_ssl.evaluate.heard.clips import HeldOut

NUM_PARTS = 10
"""Of a language, by speakers or recordings: one after the other is left out, for its interval."""
MIN_PARTS = 3
NORMAL_95 = 1.96
LEAST_SPAN = 0.25
"""Between the yardsticks. With random models of two layers they are 0.00 to 0.16 apart, with a trained one of 5.9 M
parameters 0.57 to 0.76 (Luganda, Kinyarwanda, Swahili)."""


@dataclass(frozen=True)
class Near:
    """A similarity to the target with its 95 % interval, None where it is of too few voices; NaN of too little."""

    similarity: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Yardsticks:
    """Of the target: how near its other half is, as it is, shuffled, and on the mean of clips long enough."""

    own: Near
    shuffled: float
    own_clips: float | None

    @property
    def tell(self) -> bool:
        """Whether the order of units says something at all."""
        return self.own.similarity - self.shuffled >= LEAST_SPAN

    def nearness(self, similarity: float) -> float | None:
        """Where between shuffled, 0, and the other half, 1, a similarity is; None where these say nothing."""
        return (similarity - self.shuffled) / (self.own.similarity - self.shuffled) if self.tell else None


@dataclass(frozen=True)
class Similarities:
    """What was measured: of each language; of each clip, float32 (N,), NaN where it has too few units."""

    yardsticks: Yardsticks
    languages: tuple[Near, ...]
    clips: np.ndarray


def measure(
    ear: Ear, target: HeldOut, candidates: Candidates, *, seed: int, on_clip: Callable[[int], object]
) -> Similarities:
    """Hear the target and all candidates, clip by clip; what stays in memory is counts and a number for each clip.

    Raises:
        DonorsError: The target has too few units.
    """
    reference = _reference(ear, target, seed, on_clip)
    yardsticks = _yardsticks(ear, target, reference, seed, on_clip)
    cells = ear.num_units**2
    tables = np.zeros((len(candidates.languages), NUM_PARTS, cells), np.int64)
    found = np.full(len(candidates), np.nan, np.float32)
    at = 0
    for number, pool in enumerate(candidates.pools):
        of_pool = candidates.pool == number
        keys = list(zip(candidates.num_samples[of_pool], candidates.crc32[of_pool], strict=True))
        rows = candidates.row[of_pool].tolist()
        parts = candidates.voices[of_pool] % NUM_PARTS
        for row, units in zip(rows, ear.units(Clips(pool.split), rows, keys, on_clip), strict=True):
            here, counts = np.unique(pairs(units, ear.num_units), return_counts=True)
            found[at] = reference.similarity(here, counts)
            tables[candidates.language[at], parts[row], here] += counts
            at += 1
    return Similarities(yardsticks, tuple(near(reference, table) for table in tables), found)


def near(reference: TargetPairs, parts: np.ndarray) -> Near:
    """A similarity of counts int64 (P, C), with the interval that leaving out one part after the other gives.

    A jackknife over groups (Efron, 1982): what is known of other speakers and recordings like these.
    """
    whole = parts.sum(0)
    if whole.sum() < MIN_PAIRS:
        return Near(float("nan"))
    similarity = reference.similarity_of(whole)
    without = [reference.similarity_of(whole - part) for part in parts if part.any()]
    if len(without) < MIN_PARTS or not np.isfinite(without).all():
        return Near(similarity)
    spread = np.sqrt((len(without) - 1) * np.var(without)) * NORMAL_95
    return Near(similarity, float(similarity - spread), float(similarity + spread))


def _reference(ear: Ear, target: HeldOut, seed: int, on_clip: Callable[[int], object]) -> TargetPairs:
    counts = np.zeros(ear.num_units**2, np.int64)
    for _, units in _of_half(ear, target, on_clip, in_a=True):
        counts += np.bincount(pairs(units, ear.num_units), minlength=len(counts))
    if counts.sum() < MIN_PAIRS:
        raise DonorsError(f"the target has {counts.sum()} pairs of units, {MIN_PAIRS} are needed: give more speech")
    return TargetPairs(counts, seed)


def _yardsticks(
    ear: Ear, target: HeldOut, reference: TargetPairs, seed: int, on_clip: Callable[[int], object]
) -> Yardsticks:
    generator = np.random.default_rng(seed)
    own, shuffled = np.zeros((2, NUM_PARTS, ear.num_units**2), np.int64)
    of_clips, weights = [], []
    for number, units in _of_half(ear, target, on_clip, in_a=False):
        part = int(target.groups[number]) % NUM_PARTS
        in_order = pairs(units, ear.num_units)
        np.add.at(own[part], in_order, 1)
        np.add.at(shuffled[part], pairs(collapse(generator.permutation(units)), ear.num_units), 1)
        of_clips.append(reference.similarity(*np.unique(in_order, return_counts=True)))
        weights.append(len(in_order))
    if own.sum() < MIN_PAIRS:
        raise DonorsError(
            f"the target's other half has {own.sum()} pairs of units, {MIN_PAIRS} are needed: give more speech, or "
            "cut it into more clips"
        )
    known = np.isfinite(of_clips)
    mean = float(np.average(np.array(of_clips)[known], weights=np.array(weights)[known])) if known.any() else None
    return Yardsticks(near(reference, own), reference.similarity_of(shuffled.sum(0)), mean)


def _of_half(
    ear: Ear, target: HeldOut, on_clip: Callable[[int], object], *, in_a: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """(number, units) of the clips of a half."""
    chosen = np.flatnonzero(target.in_a == in_a).tolist()
    clips = [target.clips[number] for number in chosen]
    keys = [(clip.num_samples, clip.crc32) for clip in clips]
    rows = [clip.row for clip in clips]
    yield from zip(chosen, ear.units(target.waveforms, rows, keys, on_clip), strict=True)
