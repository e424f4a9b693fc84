"""How like two stretches of speech are: the distributions of pairs of units that follow each other.

San et al., 2024, arXiv 2402.02302, compare languages by the distribution of acoustic tokens; CATDS, 2025, arXiv
2506.22194, clips. What is compared here are pairs of units, by the Jensen-Shannon divergence (Lin, 1991), and relative
to samples of the target itself that are as small: plainly, a short clip looks unlike anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

MIN_PAIRS = 20
"""A second of speech, about: of fewer nothing is told."""
GRID_SIZES, DRAWS = 24, 8
LARGEST_SAMPLE = 10**7


def collapse(labels: np.ndarray) -> np.ndarray:
    """Units without repeats: int (F,) -> int (U,)."""
    return labels[np.append(True, np.diff(labels) != 0)] if len(labels) else labels


def pairs(units: np.ndarray, num_units: int) -> np.ndarray:
    """The number, `first x num_units + second`, of each pair that follows: int (U,) -> int64 (U - 1,)."""
    wide = units.astype(np.int64)
    return wide[:-1] * num_units + wide[1:]


def shared(distribution: np.ndarray, cells: np.ndarray, counts: np.ndarray) -> float:
    """One less the Jensen-Shannon divergence, bits, of a distribution and one of counts: 1 alike, 0 nothing in common.

    `distribution`: float64 (C,), sums to 1. The counts, int (n,), are of `cells`; all others are 0.
    """
    from scipy.special import rel_entr

    here, there = distribution[cells], counts / counts.sum()
    middle = (here + there) / 2
    divergence = rel_entr(here, middle).sum() + rel_entr(there, middle).sum()
    elsewhere = 1.0 - here.sum()  # where counts are 0, each part of the distribution is a bit
    return float(1.0 - (divergence / np.log(2) + elsewhere) / 2)


@dataclass(frozen=True)
class TargetPairs:
    """The pairs of the target that others are compared with: int64 (C,) counts of each. `seed`: of what is drawn."""

    counts: np.ndarray
    seed: int

    def similarity(self, cells: np.ndarray, counts: np.ndarray) -> float:
        """How like the target pairs are: int64 (n,) cells, and how often each comes. NaN of fewer than `MIN_PAIRS`.

        1: like as many that are drawn from the target's own distribution; 0: none of them is the target's.
        """
        size = int(counts.sum())
        if size < MIN_PAIRS:
            return float("nan")
        sizes, expected = self._expected
        return shared(self._distribution, cells, counts) / float(np.interp(np.log(size), np.log(sizes), expected))

    def similarity_of(self, table: np.ndarray) -> float:
        """The same of counts of all cells, int64 (C,)."""
        cells = np.flatnonzero(table)
        return self.similarity(cells, table[cells])

    @cached_property
    def _distribution(self) -> np.ndarray:
        return np.asarray(self.counts / self.counts.sum())

    @cached_property
    def _expected(self) -> tuple[np.ndarray, np.ndarray]:
        """What samples of the target share with it, by their size."""
        generator = np.random.default_rng(self.seed)
        sizes = np.geomspace(MIN_PAIRS, LARGEST_SAMPLE, GRID_SIZES).astype(np.int64)
        means = []
        for size in sizes:
            tables = generator.multinomial(size, self._distribution, DRAWS)
            cells = [np.flatnonzero(table) for table in tables]
            drawn = zip(cells, tables, strict=True)
            means.append(np.mean([shared(self._distribution, at, table[at]) for at, table in drawn]))
        return sizes, np.array(means)
