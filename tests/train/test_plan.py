"""The batch plan: a pure function that loses no clip."""

from __future__ import annotations

import random

import pytest

from runyoro_ssl.train.plan import MicroBatch, PlanSettings, RunPlan, plan_epoch, wasted_share

RATE = 16_000
LENGTHS = tuple(random.Random(0).choices(range(2 * RATE, 15 * RATE), k=400))  # noqa: S311


def settings(**changes: object) -> PlanSettings:
    """30 s micro-batches, 240 s updates."""
    return PlanSettings(**{"batch_samples": 30 * RATE, "update_samples": 240 * RATE, **changes})  # type: ignore[arg-type]


def flat(updates: list[list[MicroBatch]]) -> list[MicroBatch]:
    """All micro-batches, in order."""
    return [batch for update in updates for batch in update]


def test_every_clip_appears_once_an_epoch() -> None:
    """No clip is lost or repeated, whatever the settings."""
    for chosen in (settings(), settings(clips_per_batch=7), settings(batches_per_update=3)):
        clips = [clip for batch in flat(plan_epoch(LENGTHS, chosen, seed=1, epoch=0)) for clip in batch.clips]
        assert sorted(clips) == list(range(len(LENGTHS)))


def test_plan_is_pure_and_changes_with_its_key() -> None:
    """The same arguments give the same plan; another epoch or seed another one."""
    first = plan_epoch(LENGTHS, settings(), seed=1, epoch=0)
    plan_epoch.cache_clear()
    assert first == plan_epoch(LENGTHS, settings(), seed=1, epoch=0)
    assert first != plan_epoch(LENGTHS, settings(), seed=1, epoch=1)
    assert first != plan_epoch(LENGTHS, settings(), seed=2, epoch=0)


def test_micro_batches_fit_and_waste_little() -> None:
    """Padded micro-batches stay within their seconds; buckets keep padding under 8 % (random batches: about 35 %)."""
    updates = plan_epoch(LENGTHS, settings(), seed=1, epoch=0)
    for batch in flat(updates):
        assert max(LENGTHS[clip] for clip in batch.clips) * len(batch.clips) <= 30 * RATE
    assert wasted_share(flat(updates), LENGTHS) < 0.08


def test_updates_hold_nearly_equal_audio() -> None:
    """Every update is within one micro-batch of the mean, the last one too."""
    updates = plan_epoch(LENGTHS, settings(), seed=1, epoch=0)
    sizes = [sum(LENGTHS[clip] for batch in update for clip in batch.clips) / RATE for update in updates]
    assert len(updates) == round(sum(LENGTHS) / RATE / 240)
    assert max(sizes) - min(sizes) <= 60


def test_accumulation_counts_micro_batches() -> None:
    """--gradient-accumulation-steps and --per-device-train-batch-size override the seconds."""
    updates = plan_epoch(LENGTHS, settings(clips_per_batch=8, batches_per_update=5), seed=1, epoch=0)
    assert {len(batch.clips) for batch in flat(updates)} == {8}
    assert [len(update) for update in updates] == [5] * 10


@pytest.mark.parametrize("start", [0, 1, 10, 13])
def test_run_plan_resumes_anywhere(start: int) -> None:
    """The steps after any step are those of the whole run."""
    plan = RunPlan(LENGTHS, settings(), seed=1, num_epochs=2)
    whole = list(plan.updates())
    assert [update.step for update in whole] == list(range(1, plan.total_steps + 1))
    assert list(plan.updates(start)) == whole[start:]
    assert whole[-1].epoch == 2.0


def test_max_steps_cuts_and_extends() -> None:
    """max_steps replaces the number of epochs: fewer steps, or more epochs."""
    for steps in (3, 100):
        plan = RunPlan(LENGTHS, settings(), seed=1, num_epochs=1, max_steps=steps)
        assert len(list(plan.updates())) == plan.total_steps == steps


def test_clip_longer_than_a_micro_batch_stands_alone() -> None:
    """It is not dropped."""
    updates = plan_epoch((40 * RATE, 3 * RATE, 3 * RATE), settings(), seed=0, epoch=0)
    assert sorted(sorted(batch.clips) for batch in flat(updates)) == [[0], [1, 2]]
