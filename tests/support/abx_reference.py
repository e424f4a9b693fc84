"""ABX by plain loops, as Schatz (2016) and ZeroSpeech 2021 define it: an oracle, slow, without arrays of triplets."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray], float]
Item = tuple[str, str, object, np.ndarray]
"""Phone, speaker, context, frames."""


def angle(one: np.ndarray, other: np.ndarray) -> float:
    """Of two vectors, as a share of a half turn."""
    norms = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return math.acos(max(-1.0, min(1.0, float(one @ other) / norms if norms else 0.0))) / math.pi


def slow_mean(one: np.ndarray, other: np.ndarray) -> float:
    """Angle of mean-pooled frames: in the order of their cosine distance."""
    return angle(one.mean(axis=0), other.mean(axis=0))


def slow_dtw(one: np.ndarray, other: np.ndarray) -> float:
    """Mean angle along the best path, which is walked back from the end."""
    costs = [[angle(left, right) for right in other] for left in one]
    total: dict[tuple[int, int], float] = {}
    for i, j in product(range(len(one)), range(len(other))):
        before = [total[at] for at in ((i - 1, j - 1), (i, j - 1), (i - 1, j)) if at in total]
        total[i, j] = costs[i][j] + min(before, default=0.0)
    i, j, steps = len(one) - 1, len(other) - 1, 1
    while i or j:
        ways = [at for at in ((i - 1, j - 1), (i, j - 1), (i - 1, j)) if at in total]
        i, j = min(ways, key=lambda at: total[at])  # the first of equal ones
        steps += 1
    return total[len(one) - 1, len(other) - 1] / steps


def slow_abx(items: Sequence[Item], distance: Distance, *, across: bool) -> float:
    """Error over all triplets: that of ordered pairs of phones, their mean."""
    return float(np.mean([*slow_pairs(items, distance, across=across).values()]))


def slow_pairs(items: Sequence[Item], distance: Distance, *, across: bool) -> dict[tuple[str, str], float]:
    """Error of each phone of A and of B: mean over triplets, then cells, then speakers."""
    cells: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    phones, speakers = sorted({item[0] for item in items}), sorted({item[1] for item in items})
    for a, b, speaker, other, around in product(phones, phones, speakers, speakers, {item[2] for item in items}):
        if a == b or (speaker != other) != across:
            continue
        of_a, of_b, of_x = (
            [item[3] for item in items if item[:3] == (phone, who, around)]
            for phone, who in ((a, speaker), (b, speaker), (a, other))
        )
        found = [
            0.5 if to_a == to_b else float(to_a > to_b)
            for x, one, two in product(of_x, of_a, of_b)
            if x is not one
            for to_a, to_b in [(distance(x, one), distance(x, two))]
        ]
        if found:
            cells[a, b, speaker].append(float(np.mean(found)))
    by_pair: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for (a, b, _), errors in cells.items():
        by_pair[a, b].append(float(np.mean(errors)))
    return {pair: float(np.mean(errors)) for pair, errors in by_pair.items()}
