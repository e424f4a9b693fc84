"""The batch plan of a run: which clips share a micro-batch, and which micro-batches an optimizer step.

A pure function of (lengths, settings, seed, epoch, mix of sources): the same for any number of processes and workers,
so that a resumed run, or one on another machine, goes on with the same clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from runyoro_ssl.batches.micro_batches import Cutter, MicroBatch, PlanSettings, best_lengths
from runyoro_ssl.batches.mix import TARGET, EpochStart, Mix, planned_samples
from runyoro_ssl.model.draws import derive_generator


@dataclass(frozen=True)
class Update:
    """The micro-batches behind one optimizer step, over all processes. `epoch` is the progress after it, e.g. 1.25."""

    step: int
    epoch: float
    micro_batches: tuple[MicroBatch, ...]


@dataclass(frozen=True)
class RunPlan:
    """Every optimizer step of a run, in order. `num_samples` is the length of each clip; `mix`: of several sources.

    `regroup` fits the micro-batches of a step to the machine, whichever one the run was planned on.
    """

    num_samples: tuple[int, ...]
    settings: PlanSettings
    seed: int
    num_epochs: int
    max_steps: int | None = None
    regroup: Callable[[Sequence[MicroBatch], Sequence[int]], tuple[MicroBatch, ...]] = lambda batches, _: tuple(batches)
    mix: Mix | None = None

    @cached_property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.max_steps is not None:
            return self.max_steps
        return sum(len(self.epoch(epoch)) for epoch in range(self.num_epochs))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths in samples, ascending, to one of which each clip is fitted; none: clips keep theirs."""
        lengths = best_lengths(_usual_lengths(self.num_samples, self._mix, self.seed), self.settings)
        return lengths.values if lengths else ()

    def updates(self, start_step: int = 0) -> Iterator[Update]:
        """Optimizer steps after `start_step`, which is the number already done."""
        step, epoch, total = 0, 0, self.total_steps
        while step < total:
            updates = self.epoch(epoch)
            for position, micro_batches in enumerate(updates[: total - step], start=1):
                if step + position > start_step:
                    batches = self.regroup(micro_batches, self.num_samples)
                    yield Update(step + position, epoch + position / len(updates), batches)
            step += len(updates)
            epoch += 1

    def epoch(self, epoch: int) -> list[list[MicroBatch]]:
        """Optimizer steps of one epoch, each a list of micro-batches."""
        while len(self._starts) <= epoch:
            last = len(self._starts) - 1
            self._starts[last + 1] = self._planned(last).following
        return self._planned(epoch).updates

    @cached_property
    def _starts(self) -> dict[int, EpochStart]:
        """Where each epoch begins, as far as was planned; the loop and its loader both ask."""
        return {0: EpochStart()}

    @property
    def _mix(self) -> Mix:
        return self.mix or Mix.of_one(len(self.num_samples))

    def _planned(self, epoch: int) -> PlannedEpoch:
        return _kept_plan_from(self._starts[epoch], self.num_samples, self.settings, self._mix, self.seed)


def plan_epoch(
    num_samples: tuple[int, ...], settings: PlanSettings, *, seed: int, epoch: int
) -> list[list[MicroBatch]]:
    """The optimizer steps of one epoch over one source, each a list of micro-batches.

    Clips of like length share a micro-batch; micro-batches come in random order; steps hold nearly equal audio.
    A clip appears once, or in two halves.
    """
    return _plan_from(EpochStart(epoch), num_samples, settings, Mix.of_one(len(num_samples)), seed).updates


class PlannedEpoch(NamedTuple):
    """The optimizer steps of an epoch, and where the one after it begins."""

    updates: list[list[MicroBatch]]
    following: EpochStart


def _plan_from(
    start: EpochStart, num_samples: tuple[int, ...], settings: PlanSettings, mix: Mix, seed: int
) -> PlannedEpoch:
    """Plan an epoch: all clips of the target, and of each other source as much audio as its share asks for.

    Where a source joins or ends within the epoch, what is left of it then is cut anew.
    """
    lengths = best_lengths(_usual_lengths(num_samples, mix, seed), settings) if settings.num_lengths else None
    cut = Cutter(num_samples, settings, lengths)
    left = cut.pieces(mix.clips_of(TARGET))
    places = list(start.places or [0.0] * len(mix.sources))
    step, heard, updates = start.step, frozenset({TARGET}), list[list[MicroBatch]]()
    while left:
        heard_now = mix.heard_at(step)
        of_target = planned_samples([piece for piece in left if mix.source_of(piece.clip) == TARGET], num_samples)
        for number in sorted(heard_now - heard):
            begin, places[number] = places[number], places[number] + of_target * mix.ratio(number)
            left += cut.pieces(mix.draw(number, num_samples, begin, places[number], seed=seed))
        heard = heard_now
        generator = derive_generator(seed, start.epoch, "plan", *([step] if updates else []))
        planned = cut.steps(left, generator, epoch=start.epoch, first_index=sum(map(len, updates)))
        change = mix.next_change(step)
        kept = planned if change is None else planned[: change - step]
        updates, step = updates + kept, step + len(kept)
        done = {piece for update in kept for batch in update for piece in batch.pieces}
        now = mix.heard_at(step)
        left = [piece for piece in left if piece not in done and mix.source_of(piece.clip) in now]
    return PlannedEpoch(updates, EpochStart(start.epoch + 1, step, tuple(places)))


_kept_plan_from = lru_cache(maxsize=2)(_plan_from)
"""The same; of the last two epochs it is not done again."""


def _usual_lengths(num_samples: tuple[int, ...], mix: Mix, seed: int) -> tuple[int, ...]:
    """The lengths of the clips of an epoch in which every source is heard."""
    found = [num_samples[piece.clip] for piece in mix.clips_of(TARGET)]
    of_target = sum(found)
    for number in range(TARGET + 1, len(mix.sources)):
        drawn = mix.draw(number, num_samples, 0.0, of_target * mix.ratio(number), seed=seed)
        found += [num_samples[piece.clip] for piece in drawn]
    return tuple(found)
