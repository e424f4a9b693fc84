"""Which of many models is to be kept."""

from __future__ import annotations

from collections.abc import Sequence

from runyoro_ssl.evaluate.candidates import best_by_loss
from runyoro_ssl.evaluate.choice import Beside, choose, kept_else
from runyoro_ssl.evaluate.record import ADAPTED, BASE, Interval, Judgement, KeepableModel, ModelMeasure
from runyoro_ssl.evaluate.verdict import judge

Row = tuple[str, str, float, float, float]
"""Key, which way is good, the values of both, and half the width of the difference's interval."""
CODES: Row = ("fit.hard_perplexity", "neither", 84.0, 80.0, 5.0)


def _measures(*rows: Row) -> list[ModelMeasure]:
    return [
        ModelMeasure(
            *(key, key, key.partition(".")[0], "", better, {BASE: first, ADAPTED: second}),  # type: ignore[arg-type]  # of the rows
            {BASE: Interval(first - 0.01, first + 0.01), ADAPTED: Interval(second - 0.01, second + 0.01)},
            second - first,
            Interval(second - first - half, second - first + half),
        )
        for key, better, first, second, half in rows
    ]


def _fit(first: float, second: float, half: float = 0.01) -> Row:
    return ("fit.below_guessing", "higher", first, second, half)


def _beside(name: str, *rows: Row) -> Beside:
    measures: Sequence[ModelMeasure] = _measures(*rows)
    verdict = judge(measures, minutes=10)
    return Beside(KeepableModel(name, "checkpoint", None, {}, verdict.kind), measures, verdict)


def test_labels_decide() -> None:
    """A mixture of lower loss, tidier clusters and worse phones is not kept; one of better phones is."""
    abx = ("phones.abx_within", "lower", 0.10, 0.13, 0.005)
    clusters: Row = ("geometry.davies_bouldin", "lower", 2.4, 1.2, 0.1)
    worse = _beside("worse", _fit(0.6, 0.9), CODES, clusters, abx)
    assert choose(ADAPTED, [worse]).name == ADAPTED
    better = _beside("better", _fit(0.6, 0.5), CODES, ("phones.abx_within", "lower", 0.10, 0.07, 0.005))
    best = _beside("best", _fit(0.6, 0.5), CODES, ("phones.abx_within", "lower", 0.10, 0.06, 0.005))
    assert choose(ADAPTED, [worse, better, best, better]).name == "best"
    assert "phones.abx_within: better" in choose(ADAPTED, [better]).why


def test_labels_that_tell_nothing_are_a_tie() -> None:
    """A difference that another seed can make changes nothing, however much lower the loss is."""
    small: Row = ("phones.abx_within", "lower", 0.10, 0.093, 0.002)
    assert choose(ADAPTED, [_beside("other", _fit(0.6, 0.9), CODES, small)]).name == ADAPTED


def test_without_labels_a_margin_is_needed() -> None:
    """What differs by less than a margin, or not for certain, is a tie; what fits better is kept."""
    assert choose(BASE, [_beside("near", _fit(0.6, 0.64), CODES)]).name == BASE
    assert choose(BASE, [_beside("unsure", _fit(0.6, 0.8, 0.3), CODES)]).name == BASE
    rank: Row = ("geometry.effective_rank", "higher", 20.0, 90.0, 1.0)
    assert choose(ADAPTED, [_beside("of a high rank", _fit(0.6, 0.1), CODES, rank)]).name == ADAPTED
    assert choose(BASE, [_beside("lower", _fit(0.6, 0.8), CODES)]).name == "lower"


def test_what_is_kept_else_is_called_the_base_only_if_it_is() -> None:
    """The reason names the loss of the model that was compared with, whichever that is."""
    lower = [_beside("lower", _fit(0.6, 0.8), CODES)]
    loss = "the held-out loss is 0.80 nats below that of guessing"
    assert f"beside base: {loss}, the base's 0.60" in choose(BASE, lower).why
    assert f"beside adapted: {loss}, the other's 0.60" in choose(ADAPTED, lower).why


def test_a_tie_goes_by_the_verdict() -> None:
    """To the adapted model where it helped or fits better, to the base where it did not."""
    for kind, expected in (("helped", ADAPTED), ("fits better", ADAPTED), ("no evidence", BASE), ("hurt", BASE)):
        verdict = Judgement(kind, "")  # type: ignore[arg-type]  # one of the four
        assert kept_else(_measures(_fit(0.6, 0.6)), verdict) == expected


def test_a_base_that_guesses_is_not_kept() -> None:
    """In place of a model that has learned, whatever its rank; labels may say so."""
    measures = _measures(_fit(-0.035, 0.770), ("geometry.effective_rank", "higher", 91.7, 82.3, 3.0))
    assert kept_else(measures, Judgement("no evidence", "")) == ADAPTED
    assert kept_else(measures, Judgement("hurt", "")) == BASE


def test_the_least_loss_is_of_one_model_under_one_name() -> None:
    """A checkpoint that is the adapted model is not named beside it."""
    same = KeepableModel("checkpoint-4", "checkpoint", 4, {"fit.below_guessing": 0.8}, same_as=ADAPTED)
    other = KeepableModel("checkpoint-2", "checkpoint", 2, {"fit.below_guessing": 0.7})
    assert best_by_loss([same, other], _measures(_fit(0.6, 0.8))) == ADAPTED
    assert best_by_loss([same, other], []) == "checkpoint-2"
