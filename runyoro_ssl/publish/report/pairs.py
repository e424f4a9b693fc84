"""Which sounds a model takes for each other: pairs of phones, the adapted model beside its base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.evaluate.record import ADAPTED, BASE, Evaluation, PhonePair
from runyoro_ssl.page.amounts import number, plural
from runyoro_ssl.page.axes import Axis, Tick, axis_of

NUM_PAIRS = 10
"""Of a table."""
FEW_INSTANCES = 10
"""A pair of which either phone was compared less often is left out: one of them would turn it."""
CHANCE = 0.5


@dataclass(frozen=True)
class ShownPair:
    """A pair: its phones, how many of each, the errors in per cent, and where they stand, in per cent of the axis."""

    name: str
    instances: str
    adapted: str
    base: str
    adapted_at: float
    base_at: float


@dataclass(frozen=True)
class PairTable:
    """Pairs on one axis, which holds 0 and chance."""

    title: str
    rows: Sequence[ShownPair]
    ticks: Sequence[Tick]


@dataclass(frozen=True)
class ShownPairs:
    """The pairs that are taken for each other most, those that changed most, and of how many they are."""

    tables: Sequence[PairTable]
    sentence: str


def shown_pairs(evaluation: Evaluation) -> ShownPairs | None:
    """What is shown of pairs; None where no pair has instances enough, of both models."""
    known = [one for one in evaluation.pairs if _is_known(one)]
    often = [one for one in known if min(one.instances) >= FEW_INSTANCES]
    if not often:
        return None
    axis = axis_of(np.array([0.0, CHANCE, *(one.values[name] for one in often for name in (BASE, ADAPTED))]), scale=100)
    worst = sorted(often, key=lambda one: -one.values[ADAPTED])
    changed = sorted(often, key=lambda one: -abs(one.values[ADAPTED] - one.values[BASE]))
    tables = [_table("Taken for each other most, by the adapted model", worst, axis)]
    if len(often) > NUM_PAIRS:
        tables.append(_table("Changed most", changed, axis))
    rare = len(known) - len(often)
    left_out = f" {plural(rare, 'pair')} with fewer {'is' if rare == 1 else 'are'} left out." if rare else ""
    return ShownPairs(
        tables,
        f"Of {plural(len(often), 'pair')} of phones with {FEW_INSTANCES} or more of either.{left_out} A single pair "
        "has no interval: of few instances, one may turn it, and of many pairs some are far out by chance.",
    )


def _is_known(pair: PhonePair) -> bool:
    return all(math.isfinite(pair.values.get(name, math.nan)) for name in (BASE, ADAPTED))


def _table(title: str, pairs: Sequence[PhonePair], axis: Axis) -> PairTable:
    return PairTable(title, [_show(one, axis) for one in pairs[:NUM_PAIRS]], axis.ticks)


def _show(pair: PhonePair, axis: Axis) -> ShownPair:
    adapted, base = pair.values[ADAPTED], pair.values[BASE]
    return ShownPair(
        " \N{EN DASH} ".join(pair.phones),
        ", ".join(map(number, pair.instances)),
        number(100 * adapted, 1),
        number(100 * base, 1),
        round(axis.place(adapted), 2),
        round(axis.place(base), 2),
    )
