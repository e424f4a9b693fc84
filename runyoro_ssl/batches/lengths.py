"""A few clip lengths for a whole run, so that the network sees few shapes: each clip is cropped or padded to one.

Devices that plan or cache by shape (MPS, torch.compile, CUDA graphs) need this. Lengths are chosen to waste least:
padding, which is computed for nothing, and audio left out, which is another part in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from runyoro_ssl.model.fit import FEW_LENGTHS

GRID_POINTS = 150
"""Lengths are chosen among this many, evenly spaced up to the longest clip."""
ENOUGH = 0.045
"""Long clips are halved, from the longest down, until choosing lengths alone wastes less than this."""
HALVING_STEP = 0.95
SECOND_HALF = 2


def fewer_shapes(num_lengths: int) -> str | None:
    """The option with which a device sees fewer shapes than with so many lengths (0: every clip's own); None: none."""
    if num_lengths == 0:
        return f"--set hardware.clip_lengths={FEW_LENGTHS}"
    return None if num_lengths == 1 else f"a lower --set hardware.clip_lengths (now {num_lengths}), down to 1"


class Piece(NamedTuple):
    """A clip, or one half of it: `part` 0 is all, 1 its first half, 2 its second.

    `repeat`: how often the clip was heard before in the same epoch, where one of several sources is small.
    """

    clip: int
    part: int = 0
    repeat: int = 0

    def num_samples(self, clip_samples: int) -> int:
        """Samples of the piece, before it is fitted to a length."""
        return clip_samples if self.part == 0 else clip_samples // 2

    def window(self, clip_samples: int, length: int | None, generator: torch.Generator) -> tuple[int, int]:
        """Samples to read: all, or a place drawn at random. A half too short for its length reaches into the other."""
        if length is None or length >= clip_samples:
            return 0, clip_samples
        begin = clip_samples - self.num_samples(clip_samples) if self.part == SECOND_HALF else 0
        room = self.num_samples(clip_samples) - length
        if room <= 0:
            begin = clip_samples - length if self.part == SECOND_HALF else 0
        else:
            begin += int(torch.randint(room + 1, (), generator=generator))
        return begin, begin + length


@dataclass(frozen=True)
class Lengths:
    """The lengths of a run: `values`, ascending, in samples; clips of at least `halve_from` samples give two pieces."""

    values: tuple[int, ...]
    halve_from: int

    def halved(self, pieces: Iterable[Piece], num_samples: Sequence[int]) -> list[Piece]:
        """Pieces of an epoch of whole clips: each is in them whole, or in both halves."""
        parts = {True: (1, 2), False: (0,)}
        return [
            piece._replace(part=part) for piece in pieces for part in parts[num_samples[piece.clip] >= self.halve_from]
        ]

    def nearest(self, num_samples: Sequence[int]) -> np.ndarray:
        """The index of the nearest length for each size."""
        values = np.asarray(self.values)
        return np.asarray(np.searchsorted((values[1:] + values[:-1]) / 2, np.asarray(num_samples)))


def choose_lengths(num_samples: Sequence[int], count: int) -> Lengths:
    """Choose at most `count` lengths, the best for pieces that stay as long as that allows."""
    sizes = np.asarray(num_samples)
    limit = float(sizes.max()) + 1
    while True:
        long = sizes >= limit
        pieces = np.concatenate([sizes[~long], np.repeat(sizes[long] // 2, 2)])
        values, waste = _medians(pieces, count)
        if waste <= ENOUGH or limit * HALVING_STEP < np.median(sizes):
            return Lengths(values, int(np.ceil(limit)))
        limit *= HALVING_STEP


def _medians(sizes: np.ndarray, count: int) -> tuple[tuple[int, ...], float]:
    """The lengths with the least total distance to their sizes, and that distance as a share of all samples.

    The best on a grid, by dynamic programming over where one length's sizes end and the next one's begin.
    """
    points = np.rint(sizes / sizes.max() * GRID_POINTS).astype(int)
    weights = np.bincount(points, minlength=GRID_POINTS + 1).astype(float)
    cost = _interval_costs(weights)
    num_points = len(weights)
    total = np.full((count + 1, num_points + 1), np.inf)
    total[0, 0] = 0.0
    begin = np.zeros((count + 1, num_points + 1), dtype=int)
    for used in range(1, count + 1):
        options = total[used - 1][:, None] + cost
        begin[used], total[used] = options.argmin(axis=0), options.min(axis=0)
    edges, end = [], num_points
    for remaining in range(int(total[1:, -1].argmin()) + 1, 0, -1):
        end = begin[remaining, end]
        edges.append(end)
    group = np.searchsorted(sorted(edges), points, side="right")
    values = np.array([np.median(sizes[group == number]) for number in np.unique(group)]).astype(int)
    distance = np.abs(sizes - values[np.unique(group, return_inverse=True)[1]]).sum()
    return tuple(map(int, values)), float(distance / sizes.sum())


def _interval_costs(weights: np.ndarray) -> np.ndarray:
    """Total distance of the sizes at grid points i..j-1 to their median, at [i, j]. (n + 1, n + 1), inf for i >= j."""
    num_points = len(weights)
    mass = np.concatenate([[0.0], np.cumsum(weights)])
    moment = np.concatenate([[0.0], np.cumsum(weights * np.arange(num_points))])
    start, end = np.arange(num_points)[:, None], np.arange(num_points + 1)[None, :]
    half = (mass[start] + mass[end]) / 2
    centre = np.clip(np.searchsorted(mass, half) - 1, start, np.maximum(start, end - 1))
    below = centre * (mass[centre] - mass[start]) - (moment[centre] - moment[start])
    above = moment[end] - moment[centre] - centre * (mass[end] - mass[centre])
    return np.vstack([np.where(start < end, below + above, np.inf), np.full((1, num_points + 1), np.inf)])
