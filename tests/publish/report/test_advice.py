"""What the page says to do next suits its verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runyoro_ssl.evaluate.record import JudgementKind
from runyoro_ssl.publish.report.advice import suggestions
from support.evaluations import bare_evaluation


@pytest.mark.parametrize(
    ("kind", "said", "not_said"),
    [
        ("helped", "Use it", "Label"),
        ("fits better", "Use it", "Keep the base"),
        ("no evidence", "Label some minutes", "Use it"),
        ("hurt", "Keep the base model", "Label"),
    ],
)
def test_what_to_do_next_suits_the_verdict(kind: JudgementKind, said: str, not_said: str) -> None:
    """A model that helped is used, one that hurt is not labelled for."""
    evaluation = bare_evaluation()
    if kind == "helped":
        evaluation = replace(
            evaluation, measures=[replace(one, is_labelled=True) for one in evaluation.measures] or evaluation.measures
        )
    evaluation = replace(evaluation, verdict=replace(evaluation.verdict, kind=kind), best={})
    text = " ".join(one.what for one in suggestions(None, None, evaluation))
    assert said in text
    assert not_said not in text
