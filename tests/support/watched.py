"""A watch over made-up updates and validations, as a run would show them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.evaluate.metrics import UpdateNumbers
from runyoro_ssl.train.health.alarms import Alarm
from runyoro_ssl.train.health.watch import HealthWatch

CHANCE = math.log(101)
TRAINED = -2.5
"""Nats above guessing at which XLS-R starts."""
HEALTHY = UpdateNumbers(1, CHANCE + TRAINED, 0.4, CHANCE, (250.0, 180.0), 1.0)
FRESH = UpdateNumbers(1, CHANCE + 0.001, 0.01, CHANCE, (20.0, 25.0), 0.3)
"""Random weights: at chance."""
VALID = {
    "eval/objective": 2.2,
    "eval/contrastive_loss": 2.1,
    "eval/chance_loss": 4.6,
    "eval/hard_perplexity": 400.0,
}


def watch(*, starts_at: float | None = TRAINED, **settings: Any) -> HealthWatch:
    """A watch with default thresholds but for `settings`, of a model that came so far above guessing (nats)."""
    health = HealthWatch(HealthConfig(**settings))
    if starts_at is not None:
        health.validations["first"] = came(starts_at)
    return health


def came(starts_at: float) -> dict[str, float]:
    """The validation of a model as it came."""
    return {"step": 0, "eval/contrastive_loss": CHANCE + starts_at, "eval/chance_loss": CHANCE}


def go_back(health: HealthWatch, saved: HealthWatch | None = None) -> None:
    """What the run does with a watch when it goes back: to a checkpoint that holds `saved` as JSON, or to its start."""
    if saved is None:
        health.start_over()
    else:
        health.restore(*as_json(saved), went_back=True)
    health.rollbacks += 1


def as_json(health: HealthWatch) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a checkpoint keeps of a watch, written and read."""
    state, validations = json.loads(json.dumps([health.state_dict(), health.validations], allow_nan=False))
    return state, validations


def copy_of(health: HealthWatch) -> HealthWatch:
    """A watch that knows the same, as when a checkpoint was written."""
    saved = watch(starts_at=None)
    saved.restore(*as_json(health), went_back=False)
    saved.rollbacks = health.rollbacks
    return saved


def many(count: int, like: UpdateNumbers = HEALTHY, **values: Any) -> list[UpdateNumbers]:
    """`count` updates alike."""
    return [replace(like, **values)] * count


def alarms(health: HealthWatch, *updates: Iterable[UpdateNumbers], first: int = 1) -> list[tuple[int, Alarm]]:
    """The alarms of these updates, numbered from `first`, up to the first after which the run cannot just go on."""
    found: list[tuple[int, Alarm]] = []
    for step, numbers in enumerate((one for part in updates for one in part), first):
        alarm = health.judge_update(replace(numbers, step=step))
        if alarm:
            found.append((step, alarm))
            if alarm.action in {"go_back", "stop"}:
                break
    return found


def kinds(found: list[tuple[int, Alarm]]) -> list[tuple[int, str, str]]:
    """Step, kind and action of alarms."""
    return [(step, alarm.kind, alarm.action) for step, alarm in found]


def validate(health: HealthWatch, losses: Iterable[float], *, first: int = 100, **values: Any) -> list[Alarm | None]:
    """Validate every 100 steps with these losses."""
    return [
        health.judge_validation(step, {**VALID, "eval/objective": loss, **values})
        for step, loss in zip(range(first, 10**6, 100), losses, strict=False)
    ]
