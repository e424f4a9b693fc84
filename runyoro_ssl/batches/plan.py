"""The batch plan of a run: which clips share a micro-batch, and which micro-batches an optimizer step.

A pure function of (lengths, settings, seed, epoch): the same for any number of processes and workers, so that a
resumed run, or one on another machine, goes on with the same clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import torch

from runyoro_ssl.batches.lengths import Lengths, Piece, choose_lengths
from runyoro_ssl.model.draws import derive_generator

if TYPE_CHECKING:
    from runyoro_ssl.config import FittedHardware  # the bench runs where there is no pydantic

LENGTH_JITTER = 0.05
"""Clips are sorted by length times a draw from 1 ± this: neighbours change every epoch, padding stays small."""


@dataclass(frozen=True)
class MicroBatch:
    """Pieces of clips (dataset rows) that go through the model together.

    `index` counts the micro-batches of its epoch. `length`: samples that every piece is cropped or padded to; None:
    clips stay as they are, and are padded to the longest. `part`: where another machine cut the update anew, the number
    of this micro-batch in it, from 1.
    """

    epoch: int
    index: int
    pieces: tuple[Piece, ...]
    length: int | None = None
    part: int = 0

    @classmethod
    def of(cls, clips: Iterable[int], *, epoch: int = 0, index: int = 0) -> MicroBatch:
        """A micro-batch of whole clips."""
        return cls(epoch, index, tuple(Piece(clip) for clip in clips))

    @property
    def clips(self) -> tuple[int, ...]:
        """The dataset row of each piece."""
        return tuple(piece.clip for piece in self.pieces)


@dataclass(frozen=True)
class Update:
    """The micro-batches behind one optimizer step, over all processes. `epoch` is the progress after it, e.g. 1.25."""

    step: int
    epoch: float
    micro_batches: tuple[MicroBatch, ...]


@dataclass(frozen=True)
class PlanSettings:
    """The sizes of a plan, in samples. `clips_per_batch` and `batches_per_update` replace the sizes where given.

    `num_lengths`: clip lengths of the whole run, to one of which each clip is cropped or padded; 0 keeps all lengths.
    """

    batch_samples: float
    update_samples: float
    clips_per_batch: int | None = None
    batches_per_update: int | None = None
    num_lengths: int = 0

    @classmethod
    def from_hardware(cls, hardware: FittedHardware, *, sampling_rate: int, num_processes: int) -> PlanSettings:
        """The sizes a profile asks for. Accumulation, where set, counts the micro-batches of each process."""
        accumulation = hardware.gradient_accumulation_steps
        return cls(
            batch_samples=hardware.batch_seconds * sampling_rate,
            update_samples=hardware.update_seconds * sampling_rate,
            clips_per_batch=hardware.per_device_train_batch_size,
            batches_per_update=None if accumulation is None else accumulation * num_processes,
            num_lengths=hardware.clip_lengths,
        )

    def grouped_by(self, samples: float) -> PlanSettings:
        """The same with groups of so many samples, of which the steps of a run are made on any machine."""
        return replace(self, batch_samples=samples)

    def clips_of(self, length: int) -> int:
        """How many clips of this many samples fit into a micro-batch, at least one."""
        return self.clips_per_batch or max(1, int(self.batch_samples // length))


@dataclass(frozen=True)
class RunPlan:
    """Every optimizer step of a run, in order. `num_samples` is the length of each clip.

    `regroup` fits the micro-batches of a step to the machine, whichever one the run was planned on.
    """

    num_samples: tuple[int, ...]
    settings: PlanSettings
    seed: int
    num_epochs: int
    max_steps: int | None = None
    regroup: Callable[[Sequence[MicroBatch], Sequence[int]], tuple[MicroBatch, ...]] = lambda batches, _: tuple(batches)

    @cached_property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.max_steps is not None:
            return self.max_steps
        return sum(len(self.epoch(epoch)) for epoch in range(self.num_epochs))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths in samples, ascending, to one of which each clip is fitted; none: clips keep theirs."""
        return _best_lengths(self.num_samples, self.settings).values if self.settings.num_lengths else ()

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
        return plan_epoch(self.num_samples, self.settings, seed=self.seed, epoch=epoch)


@lru_cache(maxsize=2)
def plan_epoch(
    num_samples: tuple[int, ...], settings: PlanSettings, *, seed: int, epoch: int
) -> list[list[MicroBatch]]:
    """The optimizer steps of one epoch, each a list of micro-batches.

    Clips of like length share a micro-batch; micro-batches come in random order; steps hold nearly equal audio.
    A clip appears once, or in two halves.
    """
    generator = derive_generator(seed, epoch, "plan")
    groups: Sequence[tuple[list[Piece], int | None]]
    if settings.num_lengths:
        groups = _fitted(num_samples, _best_lengths(num_samples, settings), settings, generator)
    else:
        groups = _by_neighbours(num_samples, settings, generator)
    shuffled = [groups[index] for index in torch.randperm(len(groups), generator=generator).tolist()]
    batches = [MicroBatch(epoch, index, tuple(pieces), length) for index, (pieces, length) in enumerate(shuffled)]
    if settings.batches_per_update is not None:
        size = settings.batches_per_update
        return [batches[start : start + size] for start in range(0, len(batches), size)]
    return _split_evenly(batches, num_samples, settings.update_samples)


def wasted_share(batches: Iterable[MicroBatch], num_samples: Sequence[int]) -> float:
    """Padding, audio computed twice and audio left out of an epoch, as a share of what was computed or left out."""
    computed = 0
    heard = [0] * len(num_samples)
    for batch in batches:
        length = batch.length or max(num_samples[clip] for clip in batch.clips)
        computed += length * len(batch.pieces)
        for clip in batch.clips:
            heard[clip] = min(num_samples[clip], heard[clip] + length)
    left_out = sum(num_samples) - sum(heard)
    return 1 - sum(heard) / (computed + left_out)


def _by_neighbours(
    num_samples: Sequence[int], settings: PlanSettings, generator: torch.Generator
) -> list[tuple[list[Piece], None]]:
    """Whole clips in order of length, cut into micro-batches that stay within the size after padding."""
    jitter = 1 + LENGTH_JITTER * (2 * torch.rand(len(num_samples), generator=generator) - 1)
    order = (torch.tensor(num_samples) * jitter).argsort(stable=True).tolist()
    groups: list[list[Piece]] = []
    longest = 0
    for clip in order:
        longest = max(longest, num_samples[clip])
        if groups and len(groups[-1]) < settings.clips_of(longest):
            groups[-1].append(Piece(clip))
        else:
            groups.append([Piece(clip)])
            longest = num_samples[clip]
    return [(group, None) for group in groups]


def _fitted(
    num_samples: Sequence[int], lengths: Lengths, settings: PlanSettings, generator: torch.Generator
) -> list[tuple[list[Piece], int]]:
    """Pieces fitted to a few lengths, each with its constant number of pieces in a micro-batch.

    What does not fill a micro-batch moves to the next shorter length; one smaller micro-batch may remain at the end.
    Within a length, pieces to pad stand together: the other micro-batches need no attention mask.
    """
    pieces = lengths.pieces(num_samples)
    nearest = lengths.nearest([piece.num_samples(num_samples[piece.clip]) for piece in pieces])
    groups: list[tuple[list[Piece], int]] = []
    over: list[Piece] = []
    for number, length in reversed(list(enumerate(lengths.values))):
        members = over + [pieces[index] for index in (nearest == number).nonzero()[0]]
        members = [members[index] for index in torch.randperm(len(members), generator=generator).tolist()]
        size = settings.clips_of(length)
        whole = len(members) - (len(members) % size if number else 0)
        over = members[whole:]
        members = sorted(members[:whole], key=lambda piece: num_samples[piece.clip] < length)
        groups += [(members[start : start + size], length) for start in range(0, whole, size)]
    return groups


@lru_cache(maxsize=2)
def _best_lengths(num_samples: tuple[int, ...], settings: PlanSettings) -> Lengths:
    """Fewer lengths than asked for, where clips are so few that incomplete micro-batches would cost more."""

    def waste(lengths: Lengths) -> float:
        groups = _fitted(num_samples, lengths, settings, derive_generator("lengths"))
        return wasted_share((MicroBatch(0, 0, tuple(pieces), length) for pieces, length in groups), num_samples)

    return min((choose_lengths(num_samples, count) for count in range(settings.num_lengths, 0, -1)), key=waste)


def _split_evenly(
    batches: Sequence[MicroBatch], num_samples: Sequence[int], update_samples: float
) -> list[list[MicroBatch]]:
    """Consecutive micro-batches in steps of nearly equal audio, as near to `update_samples` as whole steps allow."""
    sizes = [
        batch.length * len(batch.pieces) if batch.length else sum(num_samples[clip] for clip in batch.clips)
        for batch in batches
    ]
    total = sum(sizes)
    num_updates = max(1, min(len(batches), round(total / update_samples)))
    updates: list[list[MicroBatch]] = [[] for _ in range(num_updates)]
    before = 0
    for batch, size in zip(batches, sizes, strict=True):
        middle = before + size / 2
        updates[min(num_updates - 1, int(middle / total * num_updates))].append(batch)
        before += size
    return [update for update in updates if update]
