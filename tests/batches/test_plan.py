"""The batch plan: a pure function that loses no clip."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from runyoro_ssl.batches.lengths import Piece
from runyoro_ssl.batches.micro_batches import MicroBatch, PlanSettings, wasted_share
from runyoro_ssl.batches.plan import RunPlan, plan_epoch
from runyoro_ssl.evaluate.heldout import plan_validation

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
    assert first == plan_epoch(LENGTHS, settings(), seed=1, epoch=0)
    for seed, epoch in ((1, 1), (2, 0)):
        other = flat(plan_epoch(LENGTHS, settings(), seed=seed, epoch=epoch))
        # Not as they stand in other places, nor by the number of their epoch alone.
        assert {batch.clips for batch in flat(first)} != {batch.clips for batch in other}


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


class TestClipLengths:
    """Cropped plans: every micro-batch at one of a few lengths."""

    def test_few_shapes_in_every_epoch(self) -> None:
        """At most 6 lengths, each with one number of clips; at most one micro-batch is smaller."""
        shapes = Counter(
            (batch.length or 0, len(batch.pieces))
            for epoch in range(3)
            for batch in flat(plan_epoch(LENGTHS, settings(num_lengths=6), seed=1, epoch=epoch))
        )
        assert len({length for length, _ in shapes}) <= 6
        assert sum(size * length < 30 * RATE - length for length, size in shapes) <= 1
        assert len(shapes) <= 7

    def test_every_clip_is_there_whole_or_in_both_halves(self) -> None:
        """And an epoch is another draw of the same pieces."""
        first, second = (
            sorted(
                piece
                for batch in flat(plan_epoch(LENGTHS, settings(num_lengths=6), seed=1, epoch=epoch))
                for piece in batch.pieces
            )
            for epoch in (0, 1)
        )
        assert first == second
        parts: dict[int, list[int]] = {}
        for piece in first:
            parts.setdefault(piece.clip, []).append(piece.part)
        assert sorted(parts) == list(range(len(LENGTHS)))
        assert all(found in ([0], [1, 2]) for found in parts.values())
        assert [1, 2] in parts.values()

    def test_padded_pieces_stand_together(self) -> None:
        """Of each length, all micro-batches but one hold only clips to pad or only clips to crop."""
        mixed: Counter[int | None] = Counter()
        for batch in flat(plan_epoch(LENGTHS, settings(num_lengths=6), seed=1, epoch=0)):
            short = {LENGTHS[clip] < (batch.length or 0) for clip in batch.clips}
            mixed[batch.length] += len(short) == 2
        assert max(mixed.values()) <= 1

    def test_wasted_share_counts_padding_repeats_and_gaps(self) -> None:
        """By hand: 100 samples padded by 20; 100 cropped to 60 twice, so 20 twice; 100 cropped to 50, so 50 unheard."""
        batches = [
            MicroBatch(0, 0, (Piece(0),), length=120),
            MicroBatch(0, 1, (Piece(1, 1), Piece(1, 2)), length=60),
            MicroBatch(0, 2, (Piece(2),), length=50),
        ]
        assert wasted_share(batches, (100, 100, 100)) == pytest.approx(1 - 250 / (120 + 120 + 50 + 50))

    @pytest.mark.parametrize("clips", [(RATE,), (2 * RATE,) * 3, (2 * RATE, 15 * RATE), (5, 7, 1000)])
    def test_few_clips_are_planned_too(self, clips: tuple[int, ...]) -> None:
        """Down to one."""
        batches = flat(plan_epoch(clips, settings(num_lengths=6), seed=0, epoch=0))
        assert {clip for batch in batches for clip in batch.clips} == set(range(len(clips)))


@pytest.mark.parametrize("num_lengths", [0, 5])
@pytest.mark.parametrize("held_out", [1, 7, 60, len(LENGTHS)])
def test_validation_plan_has_every_clip_once_and_crops_none(num_lengths: int, held_out: int) -> None:
    """With few lengths it brings at most three shapes that training has not: two of the longest, and a rest."""
    sizes = settings(num_lengths=num_lengths)
    training = RunPlan(LENGTHS, sizes, seed=0, num_epochs=1)
    clips = LENGTHS[::-1][:held_out]
    batches = plan_validation(clips, sizes, training.lengths)
    assert sorted(clip for batch in batches for clip in batch.clips) == list(range(held_out))
    for batch in batches:
        longest = max(clips[clip] for clip in batch.clips)
        assert longest <= (batch.length or longest)
        assert longest * len(batch.clips) <= 30 * RATE
    if num_lengths:
        known = {(batch.length, len(batch.clips)) for batch in flat(training.epoch(0))}
        assert len({(batch.length, len(batch.clips)) for batch in batches} - known) <= 3


@pytest.mark.parametrize("num_lengths", [0, 6], ids=["padded", "cropped"])
def test_real_durations_waste_under_5_percent(bantu: Path, num_lengths: int) -> None:
    """10 h of clips with the durations of real speech, cut and filtered as `prepare` does, in 30 s micro-batches."""
    lines = (bantu / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    durations = [json.loads(line)["duration"] for line in lines]
    pieces = [seconds / -(-seconds // 15) for seconds in durations for _ in range(int(-(-seconds // 15)))]
    kept = [seconds for seconds in pieces if seconds >= 2]
    draw = random.Random(0)  # noqa: S311
    clips = tuple(int(draw.choice(kept) * RATE) for _ in range(int(10 * 3600 / (sum(kept) / len(kept)))))
    assert sum(clips) / RATE / 3600 == pytest.approx(10, rel=0.05)
    for epoch in range(2):
        batches = flat(plan_epoch(clips, settings(num_lengths=num_lengths), seed=1, epoch=epoch))
        assert wasted_share(batches, clips) < 0.05
