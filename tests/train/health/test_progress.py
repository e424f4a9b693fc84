"""Progress that is lost, and learning that only wavers."""

from __future__ import annotations

import random
from dataclasses import replace

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.train.health.watch import HealthWatch
from support.watched import CHANCE, FRESH, HEALTHY, TRAINED, alarms, came, kinds, many, validate, watch


def test_early_learning_may_go_up_and_down() -> None:
    """Random weights at a high rate: 0.15 nats below guessing, then 0.08 for ten updates, even 0.05; then on."""
    rng = random.Random(0)  # noqa: S311 - chance, not secrecy
    gaps = [*[0.05] * 30, *[-0.05] * 20, *[-0.1] * 20, *[-0.15] * 20, *[-0.08] * 15, *[-0.045] * 20, *[-0.2] * 30]
    longer = [*gaps[:70], *[-0.15] * 80, *[-0.11] * 12, *[-0.08] * 12, *[-0.04] * 20, *[-0.2] * 30]
    for _ in range(20):
        for course in (gaps, longer):
            updates = [replace(FRESH, contrastive_loss=CHANCE + gap + rng.gauss(0, 0.01)) for gap in course]
            assert not alarms(watch(starts_at=0.1), updates)


def test_progress_is_judged_by_what_was_held() -> None:
    """Not by one good moment. A damaged weight costs half at once, also of little; a slow loss costs 0.3 nats first."""
    moment = [*many(60, FRESH, contrastive_loss=CHANCE - 0.05), *many(12, FRESH, contrastive_loss=CHANCE - 0.5)]
    assert not alarms(watch(starts_at=0.1), moment, many(30, FRESH, contrastive_loss=CHANCE - 0.05))
    held = many(60, FRESH, contrastive_loss=CHANCE - 0.18)
    damaged = many(30, FRESH, contrastive_loss=CHANCE - 0.06)
    assert kinds(alarms(watch(starts_at=0.1), held, damaged)) == [(70, "lost_progress", "go_back")]
    slowly = [replace(HEALTHY, contrastive_loss=CHANCE + TRAINED * (1 - step / 400)) for step in range(390)]
    ((step, alarm),) = alarms(watch(), many(30), slowly)
    assert (alarm.kind, 230 <= step <= 260) == ("lost_progress", True)


def test_progress_lost_while_the_rate_rises() -> None:
    """Three quarters, not a half, until the warm-up is over; another warm-up, another answer."""
    half = many(30, contrastive_loss=CHANCE + 0.4 * TRAINED)
    for warmup_steps, expected in ((100, []), (0, [(30, "lost_progress", "go_back")])):
        health = HealthWatch(HealthConfig(), warmup_steps=warmup_steps)
        health.validations["first"] = came(TRAINED)
        assert kinds(alarms(health, many(20), half)) == expected


def test_updates_that_differ_much_are_not_lost_progress() -> None:
    """Of small updates, many are at guessing in a model 0.5 nats below it on held-out speech: no alarm, no concern."""
    for seed in range(10):
        rng = random.Random(seed)  # noqa: S311 - chance, not secrecy
        updates = [replace(HEALTHY, contrastive_loss=CHANCE + min(0.03, rng.gauss(-0.06, 0.1))) for _ in range(600)]
        health = watch(starts_at=-0.5)
        assert not alarms(health, updates)
        assert len(health.concerns()) <= 1
    at_guessing, below = (replace(HEALTHY, contrastive_loss=CHANCE + gap) for gap in (0.0, -0.1))
    rows = [one for length in (5, 7, 9, 11, 13, 15) for one in [*[at_guessing] * length, *[below] * 3]]
    assert not alarms(watch(starts_at=TRAINED), rows)
    assert kinds(alarms(watch(starts_at=TRAINED), rows, many(60, at_guessing)))[0][1:] == ("fell_to_chance", "go_back")


def test_better_in_validation_than_in_updates() -> None:
    """Updates draw their codes: a small model may be at guessing there, and 0.4 below it on held-out speech."""
    at_chance = many(1500, contrastive_loss=CHANCE - 0.005)
    assert not alarms(watch(starts_at=-0.4), at_chance[:900])
    health = watch(starts_at=0.1)
    validate(health, [4.4], first=100, **{"eval/contrastive_loss": CHANCE - 0.4})
    assert not alarms(health, at_chance)
    assert kinds(alarms(watch(starts_at=0.1), at_chance)) == [(1000, "never_left_chance", "stop")]
