"""Whether the adapted model differs from its base in a measure, and whether another seed would differ as much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from runyoro_ssl.evaluate.record import ADAPTED, BASE, LOG_MEL, Better, Evaluation, ModelMeasure
from runyoro_ssl.evaluate.verdict import CLUSTER_MARGIN, FIT_MARGIN, FORGETTING_MARGIN, LABELLED, STABILITY_MARGIN

BETTER: Mapping[Better, str] = {
    "lower": "Lower is better.",
    "higher": "Higher is better.",
    "neither": "Neither way is good in itself.",
}
ChangeOf = Literal["better", "worse", "small", "changed", "unclear", "unknown"]
LABELS: Mapping[ChangeOf, str] = {
    "better": "changed, for the better",
    "worse": "changed, for the worse",
    "small": "no more than another seed may make",
    "changed": "changed",
    "unclear": "no clear change",
    "unknown": "change not measured",
}
RANK = "geometry.effective_rank"
MARGINS: Mapping[str, float] = {
    **LABELLED,
    "phones.abx_across": LABELLED["phones.abx_within"],
    "units.stability": STABILITY_MARGIN,
    **{
        f"{family}.{name}": FIT_MARGIN
        for family in ("fit", "memory")
        for name in ("below_guessing", "contrastive_loss")
    },
    **{f"forgetting.{name}": FORGETTING_MARGIN for name in ("below_guessing", "contrastive_loss")},
}
"""How much of a measure the verdict takes for no difference, by its key."""
SHARES_OF_BASE: Mapping[str, float] = {"geometry.davies_bouldin": CLUSTER_MARGIN}
"""The same, as a share of the base's value."""


def way_of(key: str, better: Better) -> Better:
    """Which way of a measure is good for people: no way of the rank, which is highest where nothing was learned."""
    return "neither" if key == RANK else better


def change_of(measure: ModelMeasure) -> ChangeOf:
    """Whether the two differ, by the interval of their difference; for better or worse only beyond its margin."""
    interval, difference = measure.difference_interval, measure.difference
    if interval is None or difference is None or not all(map(math.isfinite, (interval.low, interval.high))):
        return "unknown"
    if interval.low <= 0 <= interval.high:
        return "unclear"
    better = way_of(measure.key, measure.better)
    if better == "neither":
        return "changed"
    if min(abs(interval.low), abs(interval.high)) <= _margin(measure):
        return "small"
    return "better" if (interval.low > 0) == (better == "higher") else "worse"


def _margin(measure: ModelMeasure) -> float:
    share = SHARES_OF_BASE.get(measure.key, 0.0) * abs(measure.values.get(BASE, 0.0))
    return max(MARGINS.get(measure.key, 0.0), share)


def beaten_by_log_mel(evaluation: Evaluation) -> list[str]:
    """On what plain log-mel spectra beat both models, of labels and query by example, in words."""
    return [one.words for one in evaluation.measures if _is_beaten(one)]


def warning_of_log_mel(evaluation: Evaluation) -> str:
    """A sentence, where plain log-mel spectra beat both models; else nothing."""
    words = beaten_by_log_mel(evaluation)
    if not words:
        return ""
    return f"Plain log-mel spectra do better than both models on: {', '.join(words)}; judge no recipe by such models."


def _is_beaten(measure: ModelMeasure) -> bool:
    if not (measure.is_labelled or measure.family == "retrieval") or measure.better == "neither":
        return False
    if not {BASE, ADAPTED, LOG_MEL} <= measure.values.keys():
        return False
    base, adapted, plain = (measure.values[name] for name in (BASE, ADAPTED, LOG_MEL))
    return plain < min(base, adapted) if measure.better == "lower" else plain > max(base, adapted)
