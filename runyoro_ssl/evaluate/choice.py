"""Which model to keep: the rule, written here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.evaluate.record import ADAPTED, BASE, Judgement, KeepableModel, ModelMeasure
from runyoro_ssl.evaluate.verdict import FIT, LABELLED


@dataclass(frozen=True)
class Beside:
    """A model that could be kept, its measures beside those of the model that is kept else, and what they mean."""

    model: KeepableModel
    measures: Sequence[ModelMeasure]
    verdict: Judgement


@dataclass(frozen=True)
class ChosenModel:
    """The model to keep, by its name, and why."""

    name: str
    why: str


def kept_else(measures: Sequence[ModelMeasure], verdict: Judgement) -> str:
    """Which of base and adapted model is kept where nothing is better.

    The adapted one where the verdict is "helped" or "fits better"; else the base. But a base that only guesses is not
    kept in place of a model that is better than guessing for certain, unless labels, or a collapse, say so ("hurt").
    """
    if verdict.kind in ("helped", "fits better"):
        return ADAPTED
    only_the_adapted = _has_learned(measures, ADAPTED) and not _has_learned(measures, BASE)
    return ADAPTED if only_the_adapted and verdict.kind != "hurt" else BASE


def choose(kept: str, others: Sequence[Beside]) -> ChosenModel:
    """Choose the model to keep: `kept`, unless another is better by the rule of the verdict.

    Each other model is judged beside `kept`, on the same clips, by paired intervals and the margins of the verdict.
    Where labels tell of both, it is better only if the verdict on it is "helped": labels decide. Without labels, only
    if that is "fits better". Whatever is less is a tie, and a tie changes nothing. Of several that are better, the one
    that gained most on the first label, or else in held-out loss, is kept.
    """
    better = [one for one in others if one.verdict.kind == ("helped" if _labels(one) else "fits better")]
    if not better:
        return ChosenModel(kept, f"none of the others is better than {kept} by more than another seed can make")
    best = max(better, key=_gain)
    why = "; ".join(best.verdict.reasons)
    if kept != BASE:  # which is what the verdict calls it
        why = why.replace("the base", "the other")
    return ChosenModel(best.model.name, f"beside {kept}: {why}")


def _labels(one: Beside) -> list[ModelMeasure]:
    """The measures on labels that have an interval, the first that decides first."""
    known = {measure.key: measure for measure in one.measures if measure.difference_interval is not None}
    return [known[key] for key in LABELLED if key in known]


def _gain(one: Beside) -> float:
    """On the first label, or else in held-out loss: how much better it is."""
    deciding = next(iter((*_labels(one), *(of for of in one.measures if of.key == FIT))), None)
    return 0.0 if deciding is None else (1 if deciding.better == "higher" else -1) * (deciding.difference or 0.0)


def _has_learned(measures: Sequence[ModelMeasure], subject: str) -> bool:
    """Whether a model is better than guessing, for certain."""
    below = next((one.intervals.get(subject) for one in measures if one.key == FIT), None)
    return below is not None and below.low >= HealthConfig().chance_margin
