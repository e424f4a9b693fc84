"""Measures in words: shares in percent, a sentence on what came of a run."""

from __future__ import annotations

import math

import pytest

from runyoro_ssl.evaluate.metrics import Totals
from runyoro_ssl.evaluate.words import IN_WORDS, number, verdict


def test_every_measure_has_words() -> None:
    """Those that a validation takes."""
    assert {f"eval/{name}" for name in IN_WORDS} == set(Totals().means("eval", 0.1, whole_set=True))


def test_numbers() -> None:
    """Loss in nats, shares in percent; what is no number was not measured."""
    told = [number("contrastive_loss", 4.61512), number("accuracy", 0.0217), number("hard_perplexity", 15.588)]
    assert told == ["4.6151", "2.2%", "15.6"]
    assert {number("accuracy", None), number("accuracy", math.nan)} == {"not measured"}


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (4.7, 4.5, "held-out loss fell: 4.7000 to 4.5000, by guessing 4.6000"),
        (4.7, 4.65, "held-out loss fell: 4.7000 to 4.6500, by guessing 4.6000: nothing is learned yet"),
        (4.7, 4.59, "held-out loss fell: 4.7000 to 4.5900, by guessing 4.6000: nothing is learned yet"),
        (4.5, 4.55, "held-out loss did not fall: 4.5000 to 4.5500, by guessing 4.6000"),
        (math.nan, 4.5, "held-out speech could not be measured"),
        (None, 4.5, "held-out speech could not be measured"),
    ],
)
def test_verdict(was: float | None, now: float, said: str) -> None:
    """A lower loss that is no better than guessing is nothing learned."""
    best = {"eval/contrastive_loss": now, "eval/chance_loss": 4.6}
    assert verdict({"eval/contrastive_loss": was}, best) == said
