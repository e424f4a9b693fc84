"""Which phones are taken for each other: the ABX error within speakers, by pairs of phones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from runyoro_ssl.evaluate.measures.abx import AbxSums
from runyoro_ssl.evaluate.measures.abx_task import AbxTask
from runyoro_ssl.evaluate.record import PhonePair


def phone_pairs(task: AbxTask, sums: Mapping[str, AbxSums]) -> list[PhonePair]:
    """Every pair of phones that a task within speakers compares, with its error by subject.

    A pair has two orders, as A is of the one phone or of the other; its error is the mean of those that there are.
    Instances are those of speakers who say both, one of them twice.
    """
    instances, symbols = _instances(task), task.segments.symbols
    found = []
    for one, other in zip(*np.triu_indices(len(symbols), 1), strict=True):
        orders = {name: [of.of_pairs[one, other], of.of_pairs[other, one]] for name, of in sums.items()}
        if not np.isfinite([*orders.values()]).any():
            continue
        values = {name: float(np.nanmean(errors)) for name, errors in orders.items()}
        numbers = (int(instances[one, other]), int(instances[other, one]))
        found.append(PhonePair((symbols[one], symbols[other]), values, numbers))
    return found


def _instances(task: AbxTask) -> np.ndarray:
    """Of a phone (rows) that are compared with those of another: int64 (P, P)."""
    size = len(task.segments.symbols)
    found = np.zeros((size, size), dtype=np.int64)
    for table in task.tables:
        count = np.bincount(task.segments.phones[table.columns], minlength=size)
        are_compared = np.minimum.outer(count, count) > 0
        are_compared &= np.maximum.outer(count, count) > 1
        found += count[:, None] * are_compared
    return found
