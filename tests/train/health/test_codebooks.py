"""Codes in use that become fewer: real collapses are noticed on their way, and what is behind them is found again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from runyoro_ssl.evaluate.metrics import UpdateNumbers
from support.watched import CHANCE, HEALTHY, VALID, alarms, kinds, many, validate, watch


def down(levels: Sequence[float], updates_each: int, rng: random.Random, **values: Any) -> list[UpdateNumbers]:
    """Updates whose codes in use, two codebooks together, go through these levels; each differs by a tenth."""
    found = []
    for here, there in pairwise(levels):
        for number in range(updates_each):
            codes = here * (there / here) ** (number / updates_each) * rng.lognormvariate(0, 0.1)
            found.append(replace(HEALTHY, perplexities=(0.55 * codes, 0.45 * codes), **values))
    return found


def validated(contrastive_loss: float, codes: float) -> dict[str, Any]:
    """Numbers of a validation."""
    return {"eval/contrastive_loss": contrastive_loss, "eval/hard_perplexity": codes}


AT_CHANCE: dict[str, Any] = {"contrastive_loss": CHANCE - 0.01, "accuracy": 0.02}


@pytest.mark.parametrize(
    ("levels", "updates_each", "began", "by"),
    [
        # Full rate of the feature encoder, updates of 30 s: 574 codes at update 90, 121 at 150, 11 at 180.
        ((60, 300, 574, 260, 121, 11), 30, 90, 165),
        # Updates of 60 s: 196 at 60, 65 at 180, 11 at 300, and never under 3 in a codebook.
        ((60, 196, 113, 65, 27, 11), 60, 60, 225),
    ],
)
def test_codebook_that_loses_most_of_its_codes_is_collapsing(
    levels: tuple[float, ...], updates_each: int, began: int, by: int
) -> None:
    """Two real collapses: noticed on the way, long before the limit of 3 codes; going back goes behind their start."""
    rng = random.Random(0)  # noqa: S311 - chance, not secrecy
    updates = down(levels, updates_each, rng, **AT_CHANCE)
    health = watch(starts_at=0.1)
    (found,) = alarms(health, updates)
    assert kinds([found]) == [(found[0], "codebook_collapse", "go_back")]
    assert began < found[0] <= by
    assert found[1].behind is not None
    assert began - 30 <= found[1].behind <= began + 15
    assert "health.max_lost_codes" in found[1].seen
    assert health.concerns()
    assert alarms(watch(starts_at=0.1, max_lost_codes=1.0), updates) == []


def test_model_on_the_way_down_is_neither_healthy_nor_best() -> None:
    """Though most codes are still there, and its validation has the best loss of all; before that, it was both."""
    health = watch(starts_at=0.1)
    rng = random.Random(0)  # noqa: S311 - chance, not secrecy
    updates = down((60, 300, 574, 574, 121), 30, rng, **AT_CHANCE)
    alarms(health, updates[:88])
    assert health.concerns() == []
    validate(health, [4.4], first=88, **validated(4.4, 120.0))
    assert health.best_step == 88
    assert not alarms(health, updates[88:115], first=89)
    assert any("being lost" in concern for concern in health.concerns())
    (note,) = validate(health, [4.0], first=115, **validated(4.0, 90.0))
    assert note is not None
    assert (note.kind, note.action) == ("codes_shrink", "note")
    assert health.best_step == 88
    assert health.state_dict()["behind"] <= 95


def test_validation_that_lost_most_codes_is_not_the_best() -> None:
    """121 codes in training, 14 in validation, where 120 had been: relative to what was, not to the limit of 6."""
    health = watch()
    alarms(health, many(30))
    validate(health, [2.2], first=100, **{"eval/hard_perplexity": 120.0})
    (alarm,) = validate(health, [1.0], first=200, **{"eval/hard_perplexity": 14.0})
    assert alarm is not None
    assert alarm.kind == "validation_collapsed"
    assert "14.0 codes in use, all codebooks together, of at most 120.0 before" in alarm.seen
    assert (health.best_step, bool(health.concerns())) == (100, True)
    came_with = watch()
    came_with.judge_validation(0, {**VALID, "eval/hard_perplexity": 200.0})
    assert validate(came_with, [1.0], first=100, **{"eval/hard_perplexity": 60.0}) != [None]


def test_codes_that_validation_still_uses_are_not_lost() -> None:
    """A model that becomes sure of its choices counts fewer softly: no alarm, and the new level holds from there."""
    health = watch(starts_at=0.1)
    rng = random.Random(0)  # noqa: S311 - chance, not secrecy
    updates = down((570, 570, 120, 120, 120, 120), 30, rng, **AT_CHANCE)
    in_use = validated(4.4, 150.0)
    validate(health, [4.5], first=30, **in_use)
    for start in range(0, 150, 5):
        assert not alarms(health, updates[start : start + 5], first=start + 1)
        validate(health, [4.5 - start / 1000], first=start + 6, **in_use)
    assert health.concerns() == []
    assert health.best_step == 151
    assert kinds(alarms(health, down((120, 25, 25), 20, rng, **AT_CHANCE), first=151))[0][1] == "codebook_collapse"


def test_codes_in_single_updates_of_few_clips_are_no_collapse() -> None:
    """Three clips of one speaker use a third of the codes of three others: up and down, in no row."""
    rng = random.Random(1)  # noqa: S311 - chance, not secrecy
    for _ in range(5):
        updates = [
            replace(HEALTHY, perplexities=(140 * rng.lognormvariate(0, 0.35), 130 * rng.lognormvariate(0, 0.35)))
            for _ in range(400)
        ]
        assert not alarms(watch(), updates)
