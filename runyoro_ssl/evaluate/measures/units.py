"""Units: frames put into clusters, a model's own phones: how steady they are, and what they say of the speaker."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from runyoro_ssl.evaluate.grid import GRID
from runyoro_ssl.evaluate.intervals import PerGroup, Statistic

NUM_UNITS = 100
FITTED_ON = 50_000
"""Frames that units are fitted on, at most: 17 minutes, and with XLS-R-300M 205 MB."""

MIN_FRAMES_A_UNIT = 10
"""Fewer say nothing about a cluster."""


class Sample:
    """At most `size` frames of all that are shown, each as likely as any other, whatever the order and the windows."""

    def __init__(self, size: int, generator: np.random.Generator) -> None:
        self._size, self._generator = size, generator
        self._keys = np.zeros(0)
        self._frames: list[np.ndarray] = []
        self.num_shown = 0

    def show(self, features: np.ndarray) -> None:
        """Let frames be drawn. float32 (F, H)."""
        self.num_shown += len(features)
        keys = np.concatenate([self._keys, self._generator.random(len(features))])
        frames = np.concatenate([*self._frames, features])
        if len(keys) > self._size:
            chosen = np.sort(np.argpartition(keys, self._size)[: self._size])
            keys, frames = keys[chosen], frames[chosen]
        self._keys, self._frames = keys, [frames]

    @property
    def frames(self) -> np.ndarray:
        """Those that were drawn. float32 (N, H)."""
        return self._frames[0]


def fit_units(frames: np.ndarray, generator: np.random.Generator, num_units: int = NUM_UNITS) -> Any:
    """Mini-batch k-means (Sculley, 2010; scikit-learn's) of frames float32 (N, H); its `predict` gives units.

    From one start: of three, with larger batches, the best is 0.3 % nearer to its frames (15,000 of width 1,024, 100
    units), and takes ten times as long.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(frames) > FITTED_ON:
        frames = frames[generator.choice(len(frames), FITTED_ON, replace=False)]
    return MiniBatchKMeans(
        min(num_units, len(frames)),
        batch_size=1024,
        init_size=max(3000, 3 * num_units),
        n_init=1,
        random_state=int(generator.integers(2**31)),
    ).fit(frames)


def nearest_units(centres: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The nearest of centres float32 (K, H) to each frame: float32 (F, H) -> int64 (F,)."""
    squares = np.einsum("kh,kh->k", centres, centres)
    nearest: np.ndarray = np.argmin(squares - 2 * (features @ centres.T), axis=1)
    return nearest


def without_repeats(units: np.ndarray) -> list[int]:
    """The units of a clip, each run of one as a single one."""
    return [int(unit) for unit, _ in groupby(units.tolist())]


def bitrate_statistic(by_subject: Sequence[Sequence[np.ndarray]], groups: np.ndarray) -> Statistic:
    """Bits a second that units carry: their entropy times how many there are a second, repeats taken as one.

    ZeroSpeech 2019, Dunbar et al., arXiv 1904.11469, sec. 2.4. `by_subject`: of each, the units (F,) of each clip.
    """
    num_groups = int(groups.max()) + 1
    tables = []
    for clips in by_subject:
        counts = np.zeros((num_groups, 1 + max(int(units.max()) for units in clips)))
        for group, units in zip(groups, clips, strict=True):
            np.add.at(counts[group], without_repeats(units), 1)
        tables.append(counts)
    seconds = np.bincount(groups, [len(units) * GRID.frame_sec for units in by_subject[0]], minlength=num_groups)

    def statistic(weights: np.ndarray) -> np.ndarray:
        found = []
        for counts in tables:
            total = weights @ counts
            found.append(_entropy(total) / np.log(2) * total.sum(-1) / (weights @ seconds))
        return np.stack(found, axis=1)

    return statistic


def stability(
    clean: Sequence[Sequence[np.ndarray]], changed: Sequence[Sequence[np.ndarray]], groups: np.ndarray
) -> PerGroup:
    """One less the edits between the units of a clip and of its changed copy, repeats taken as one, per unit.

    1: a change of noise or speed changes no unit. After Gat et al., 2023, arXiv 2209.15483, sec. 3.
    A model that gives always the same unit is perfectly stable: read it beside the bitrate.
    """
    from rapidfuzz.distance import Levenshtein

    num_groups = int(groups.max()) + 1
    above, below = np.zeros((2, len(clean), num_groups))
    for subject, (one, other) in enumerate(zip(clean, changed, strict=True)):
        for group, units, after in zip(groups, one, other, strict=True):
            first, second = without_repeats(units), without_repeats(after)
            longest = max(len(first), len(second))
            above[subject, group] += longest - Levenshtein.distance(first, second)
            below[subject, group] += longest
    return PerGroup(above, below)


def speaker_information_statistic(
    by_subject: Sequence[Sequence[np.ndarray]], speakers: np.ndarray, groups: np.ndarray
) -> Statistic:
    """Bits that a unit tells of who speaks: mutual information of units and speakers (N,); 0 at best.

    Corrected for small counts (Miller and Madow, 1955). Groups of clips are drawn; their speakers come with them.
    """
    num_groups, num_speakers = int(groups.max()) + 1, int(speakers.max()) + 1
    tables = []
    for clips in by_subject:
        counts = np.zeros((num_groups, num_speakers, 1 + max(int(units.max()) for units in clips)))
        for group, speaker, units in zip(groups, speakers, clips, strict=True):
            np.add.at(counts[group, speaker], units, 1)
        tables.append(counts)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.stack([_information(np.tensordot(weights, counts, axes=1)) for counts in tables], axis=1)

    return statistic


def _information(counts: np.ndarray) -> np.ndarray:
    """Mutual information of the two last axes, bits: (R, A, B) -> (R,)."""
    joint, first, second = counts.reshape(len(counts), -1), counts.sum(2), counts.sum(1)
    found = sum(sign * (_entropy(one) + _bias(one)) for sign, one in ((1, first), (1, second), (-1, joint)))
    return np.asarray(np.maximum(found, 0) / np.log(2))


def _bias(counts: np.ndarray) -> np.ndarray:
    """What the entropy of counts is too low by."""
    return np.asarray(((counts > 0).sum(-1) - 1) / np.maximum(2 * counts.sum(-1), 1))


def _entropy(counts: np.ndarray) -> np.ndarray:
    """Nats: (R, K) -> (R,)."""
    share = counts / np.maximum(counts.sum(-1, keepdims=True), 1e-300)
    return np.asarray(-np.where(share > 0, share * np.log(np.maximum(share, 1e-300)), 0.0).sum(-1))
