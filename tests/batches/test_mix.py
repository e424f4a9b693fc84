"""Several sources in one plan: each has its share, none of the plan's promises is lost."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from runyoro_ssl.batches.lengths import Piece
from runyoro_ssl.batches.micro_batches import MicroBatch, PlanSettings, heard_samples, wasted_share
from runyoro_ssl.batches.mix import Mix, MixedSource
from runyoro_ssl.batches.plan import RunPlan, Update
from runyoro_ssl.config import HardwareConfig
from runyoro_ssl.model.draws import derive_generator

RATE = 16_000
DRAW = random.Random(5)  # noqa: S311
SIZES = (400, 900, 60)
LENGTHS = tuple(DRAW.choices(range(2 * RATE, 15 * RATE), k=sum(SIZES)))
SHARES = (0.6, 0.3, 0.1)


def settings(**changes: object) -> PlanSettings:
    """30 s micro-batches, 240 s updates."""
    return PlanSettings(**{"batch_samples": 30 * RATE, "update_samples": 240 * RATE, **changes})  # type: ignore[arg-type]


def mix(*, shares: tuple[float, ...] = SHARES, **of_second: int) -> Mix:
    """Three sources; the second is heard as `of_second` says."""
    first, second, third = (MixedSource(size, share) for size, share in zip(SIZES, shares, strict=True))
    return Mix((first, MixedSource(second.num_clips, second.share, **of_second), third))


def plan(mixed: Mix, **changes: object) -> RunPlan:
    """Four epochs of it."""
    return RunPlan(LENGTHS, settings(**changes), seed=1, num_epochs=4, mix=mixed)


def heard(mixed: Mix, updates: list[list[MicroBatch]]) -> np.ndarray:
    """Samples of each source: whole clips, halves as halves."""
    found = np.zeros(len(mixed.sources))
    for piece in pieces(updates):
        found[mixed.source_of(piece.clip)] += piece.num_samples(LENGTHS[piece.clip])
    return found


def pieces(updates: list[list[MicroBatch]]) -> list[Piece]:
    """All of them, in order."""
    return [piece for update in updates for batch in update for piece in batch.pieces]


@pytest.mark.parametrize("changes", [{}, {"num_lengths": 6}, {"clips_per_batch": 4, "batches_per_update": 8}])
def test_each_source_has_its_share_of_every_epoch(changes: dict[str, int]) -> None:
    """Within 1 %, of an epoch and of a run; an epoch is a pass over the first: each of its clips whole, once."""
    mixed, run = mix(), plan(mix(), **changes)
    whole = np.zeros(3)
    for epoch in range(run.num_epochs):
        updates = run.epoch(epoch)
        of_epoch = heard(mixed, updates)
        whole += of_epoch
        np.testing.assert_allclose(of_epoch / of_epoch.sum(), SHARES, atol=0.01)
        target = [piece for piece in pieces(updates) if piece.clip < SIZES[0]]
        assert len(set(target)) == len(target)
        assert {piece.clip for piece in target} == set(range(SIZES[0]))
    np.testing.assert_allclose(whole / whole.sum(), SHARES, atol=0.002)


def drawn_slowly(number: int, epoch: int) -> list[tuple[int, int]]:
    """(clip, repeat) of a source in an epoch: clip by clip along its stream, from the beginning of the run."""
    first, size = sum(SIZES[:number]), SIZES[number]
    an_epoch = sum(LENGTHS[: SIZES[0]]) * SHARES[number] / SHARES[0]
    begin, end = epoch * an_epoch, (epoch + 1) * an_epoch
    found: list[tuple[int, int]] = []
    at, turn, first_turn = 0, 0, None
    while at <= end:
        if at + sum(LENGTHS[first : first + size]) > begin and first_turn is None:
            first_turn = turn
        order = torch.randperm(size, generator=derive_generator(1, "source", number, turn)).tolist()
        for clip in order:
            if begin <= at + LENGTHS[first + clip] / 2 < end:
                found.append((first + clip, turn - (first_turn or 0)))
            at += LENGTHS[first + clip]
        turn += 1
    return found


@pytest.mark.parametrize("changes", [{}, {"num_lengths": 6}])
def test_an_epoch_holds_what_a_slow_reference_draws(changes: dict[str, int]) -> None:
    """Clip by clip along each stream, from the beginning of the run."""
    run = plan(mix(), **changes)
    for epoch in range(3):
        drawn = Counter((piece.clip, piece.repeat) for piece in pieces(run.epoch(epoch)) if piece.part != 2)
        expected = [(clip, 0) for clip in range(SIZES[0])] + drawn_slowly(1, epoch) + drawn_slowly(2, epoch)
        assert drawn == Counter(expected)


def test_no_clip_comes_again_before_all_others_of_its_source_came() -> None:
    """Over the epochs, the clips of a source are heard nearly equally often; the small one several times an epoch."""
    run = plan(mix())
    times = Counter(piece.clip for epoch in range(4) for piece in pieces(run.epoch(epoch)))
    for first, stop in pairwise((0, *np.cumsum(SIZES).tolist())):
        counts = [times[clip] for clip in range(first, stop)]
        assert max(counts) - min(counts) <= 1
    repeated = [piece for piece in pieces(plan(mix(shares=(0.5, 0.1, 0.4))).epoch(0)) if piece.repeat]
    assert repeated
    assert all(piece.clip >= SIZES[0] + SIZES[1] for piece in repeated)


@pytest.mark.parametrize("changes", [{}, {"num_lengths": 6}])
def test_a_source_is_heard_from_its_step_until_its_step(changes: dict[str, int]) -> None:
    """To the step, though both are within an epoch; the first source loses no clip by it, others keep their ratio."""
    begin, end = 9, 41
    mixed = mix(from_step=begin, until_step=end)
    run = plan(mixed, **changes)
    assert 0 < begin < len(run.epoch(0)) < end
    before = within = after = np.zeros(3)
    for update in run.updates():
        share = heard(mixed, [list(update.micro_batches)])
        if update.step <= begin:
            before = before + share
        elif update.step <= end:
            within = within + share
        else:
            after = after + share
    assert before[1] == after[1] == 0
    np.testing.assert_allclose(within / within.sum(), SHARES, atol=0.05)
    for out in (before, after):
        np.testing.assert_allclose(out[2] / out[0], SHARES[2] / SHARES[0], rtol=0.25)
    for epoch in range(4):
        indices = [batch.index for update in run.epoch(epoch) for batch in update]
        assert indices == list(range(len(indices)))
        target = [piece for piece in pieces(run.epoch(epoch)) if piece.clip < SIZES[0]]
        assert {piece.clip for piece in target} == set(range(SIZES[0]))
        assert len(set(target)) == len(target)


def test_a_plan_goes_on_in_the_middle_as_it_began() -> None:
    """From every step, also where a source joins and ends."""
    run = plan(mix(from_step=9, until_step=41))
    whole = list(run.updates())
    for step in (1, 8, 9, 10, 40, 41, 42, len(whole) - 1):
        assert list(plan(mix(from_step=9, until_step=41)).updates(step)) == whole[step:]


def test_any_number_of_processes_has_the_same_plan() -> None:
    """What each of them takes of an update is, together, the update of one."""
    hardware = HardwareConfig(device="cpu").model_copy(update={"batch_seconds": 30.0, "clip_lengths": 0})
    plans: list[list[Update]] = []
    for num_processes in (1, 2, 4):
        sizes = PlanSettings.from_hardware(hardware, sampling_rate=RATE, num_processes=num_processes)  # type: ignore[arg-type]
        plans.append(list(RunPlan(LENGTHS, sizes, seed=1, num_epochs=1, mix=mix()).updates()))
    assert plans[0] == plans[1] == plans[2]


def test_a_source_of_one_clip() -> None:
    """It is heard over and over, each time as another repeat; waste is counted by what is heard."""
    mixed = Mix((MixedSource(40, 0.5), MixedSource(1, 0.5)))
    run = RunPlan(LENGTHS[:41], settings(), seed=1, num_epochs=1, mix=mixed)
    again = [piece.repeat for piece in pieces(run.epoch(0)) if piece.clip == 40]
    assert sorted(again) == list(range(len(again)))
    assert len(again) == round(sum(LENGTHS[:40]) / LENGTHS[40])
    batches = [batch for update in run.epoch(0) for batch in update]
    assert sum(heard_samples(batches, LENGTHS).values()) == sum(LENGTHS[piece.clip] for piece in pieces(run.epoch(0)))
    assert 0 <= wasted_share(batches, LENGTHS) < 0.3
