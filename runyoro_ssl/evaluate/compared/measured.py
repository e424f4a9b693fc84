"""Measures as an evaluation records them: a statistic, its values, its intervals, in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.evaluate.intervals import FEWEST_GROUPS, REPLICATES, PerGroup, Statistic, paired_bootstrap
from runyoro_ssl.evaluate.record import ADAPTED, BASE, Better, Interval, MeasureFamily, ModelMeasure
from runyoro_ssl.model.draws import derive_seed


@dataclass(frozen=True)
class MeasureKind:
    """What a measure is, whatever it measures. As in `record.ModelMeasure`."""

    key: str
    words: str
    unit: str
    better: Better
    source: str
    is_labelled: bool = False

    @property
    def family(self) -> MeasureFamily:
        """The first part of its key."""
        return self.key.partition(".")[0]  # type: ignore[return-value]  # the keys of this package begin with one


def measured(
    kind: MeasureKind,
    subjects: Sequence[str],
    statistic: Statistic | PerGroup,
    num_groups: int,
    *,
    layers: Mapping[str, int] | None = None,
    replicates: int = REPLICATES,
) -> ModelMeasure:
    """Measure subjects in the order of the statistic's columns, base and adapted first.

    With intervals where there are groups enough, and `replicates` are wanted.
    """
    if isinstance(statistic, PerGroup):
        with_data = statistic.of_groups_with_data()
        statistic, num_groups = with_data.statistic, with_data.denominators.shape[1]
    if replicates == 0 or num_groups < FEWEST_GROUPS:
        return _without_intervals(kind, subjects, statistic(np.ones((1, num_groups)))[0], layers or {})
    found = paired_bootstrap(
        statistic, num_groups, np.random.default_rng(derive_seed("evaluate", kind.key)), replicates=replicates
    )
    known = {name: place for place, name in enumerate(subjects) if np.isfinite(found.values[place])}
    both = {BASE, ADAPTED} <= known.keys()
    return ModelMeasure(
        kind.key,
        kind.words,
        kind.family,
        kind.unit,
        kind.better,
        {name: float(found.values[place]) for name, place in known.items()},
        {
            name: Interval(float(found.low[place]), float(found.high[place]))
            for name, place in known.items()
            if np.isfinite(found.low[place]) and np.isfinite(found.high[place])
        },
        found.difference if both else None,
        Interval(found.difference_low, found.difference_high) if both and np.isfinite(found.difference_low) else None,
        dict(layers or {}),
        kind.is_labelled,
        kind.source,
        num_groups,
    )


def _without_intervals(
    kind: MeasureKind, subjects: Sequence[str], values: np.ndarray, layers: Mapping[str, int]
) -> ModelMeasure:
    known = {name: float(value) for name, value in zip(subjects, values, strict=True) if np.isfinite(value)}
    difference = known[ADAPTED] - known[BASE] if {BASE, ADAPTED} <= known.keys() else None
    return ModelMeasure(
        *(kind.key, kind.words, kind.family, kind.unit, kind.better, known),
        difference=difference,
        layers=dict(layers),
        is_labelled=kind.is_labelled,
        source=kind.source,
    )
