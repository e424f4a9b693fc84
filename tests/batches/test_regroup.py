"""An update on another machine: micro-batches that are even, and as many for each process."""

from __future__ import annotations

import random

import pytest

from runyoro_ssl.batches.micro_batches import MicroBatch, PlanSettings
from runyoro_ssl.batches.plan import RunPlan
from runyoro_ssl.batches.regroup import Regroup

RATE = 16_000
CLIPS = tuple(random.Random(0).choices(range(2 * RATE, 15 * RATE), k=2000))  # noqa: S311
PLANNED = PlanSettings(30.0 * RATE, 240.0 * RATE)


def padded(batch: MicroBatch) -> int:
    """Samples of a micro-batch, padding among them."""
    return len(batch.pieces) * max(CLIPS[clip] for clip in batch.clips)


def updates(batch_seconds: float, num_processes: int = 1) -> list[tuple[MicroBatch, ...]]:
    """The updates of an epoch, on such a machine."""
    machine = PlanSettings(batch_seconds * RATE, 240.0 * RATE)
    plan = RunPlan(CLIPS, PLANNED, 0, 1, regroup=Regroup(PLANNED, machine, num_processes))
    return [update.micro_batches for update in plan.updates()]


@pytest.mark.parametrize("num_processes", [1, 2, 4, 8])
@pytest.mark.parametrize("room", [1.1, 1.4])
def test_processes_have_as_many_micro_batches_of_like_size(num_processes: int, room: float) -> None:
    """No process waits for another: the busiest has at most a quarter more than the mean, padding within the size."""
    seconds = room * 240 / num_processes
    busiest, mean = 0, 0.0
    for micro_batches in updates(seconds, num_processes):
        assert len(micro_batches) % num_processes == 0
        sizes = [padded(batch) for batch in micro_batches]
        assert max(sizes) <= seconds * RATE
        busiest += max(sum(sizes[process::num_processes]) for process in range(num_processes))
        mean += sum(sizes) / num_processes
    assert busiest <= 1.25 * mean


def test_room_for_padding_gives_each_process_one_micro_batch() -> None:
    """Eight processes of steps of 240 s: with 31 s most would have two each."""
    assert {len(batches) for batches in updates(1.4 * 30, 8)} <= {8, 16}
    assert sum(len(batches) == 8 for batches in updates(1.4 * 30, 8)) > 0.9 * len(updates(1.4 * 30, 8))
    assert sum(len(batches) == 8 for batches in updates(31, 8)) < 0.5 * len(updates(31, 8))


def test_clips_of_an_update_stay() -> None:
    """Each of them once."""
    for there, here in zip(updates(30.0), updates(100.0, 4), strict=True):
        clips = [sorted(clip for batch in batches for clip in batch.clips) for batches in (there, here)]
        assert clips[0] == clips[1]


def test_counted_clips_and_few_lengths_are_cut_as_they_come() -> None:
    """Their shapes are what they are for."""
    machine = PlanSettings(60.0 * RATE, 240.0 * RATE, clips_per_batch=3)
    plan = RunPlan(CLIPS, PLANNED, 0, 1, regroup=Regroup(PLANNED, machine, 4))
    sizes = [len(batch.pieces) for update in plan.updates() for batch in update.micro_batches[:-1]]
    assert set(sizes) == {3}
    fitted, small = (PlanSettings(seconds * RATE, 240.0 * RATE, num_lengths=5) for seconds in (60.0, 30.0))
    plan = RunPlan(CLIPS, fitted, 0, 1, regroup=Regroup(fitted, small, 4))
    for update in plan.updates():
        for batch in update.micro_batches:
            assert len(batch.pieces) <= small.clips_of(batch.length or 0)
