"""The batch plan of a run: which clips share a micro-batch, and which micro-batches an optimizer step.

A pure function of (lengths, settings, seed, epoch): the same for any number of processes and workers, so that a
resumed run, or one on another machine, goes on with the same clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import torch

from runyoro_ssl.train.random import derive_generator

if TYPE_CHECKING:
    from runyoro_ssl.config import HardwareConfig

LENGTH_JITTER = 0.05
"""Clips are sorted by length times a draw from 1 ± this: neighbours change every epoch, padding stays small."""


@dataclass(frozen=True)
class MicroBatch:
    """Clips (dataset rows) that go through the model together. `index` counts the micro-batches of its epoch."""

    epoch: int
    index: int
    clips: tuple[int, ...]


@dataclass(frozen=True)
class Update:
    """The micro-batches behind one optimizer step, over all processes. `epoch` is the progress after it, e.g. 1.25."""

    step: int
    epoch: float
    micro_batches: tuple[MicroBatch, ...]


@dataclass(frozen=True)
class PlanSettings:
    """Sizes, in samples. `clips_per_batch` and `batches_per_update` replace the sizes where given."""

    batch_samples: float
    update_samples: float
    clips_per_batch: int | None = None
    batches_per_update: int | None = None

    @classmethod
    def from_hardware(cls, hardware: HardwareConfig, *, sampling_rate: int, num_processes: int) -> PlanSettings:
        """The sizes a profile asks for. Accumulation, where set, counts the micro-batches of each process."""
        accumulation = hardware.gradient_accumulation_steps
        return cls(
            batch_samples=hardware.batch_seconds * sampling_rate,
            update_samples=hardware.update_seconds * sampling_rate,
            clips_per_batch=hardware.per_device_train_batch_size,
            batches_per_update=None if accumulation is None else accumulation * num_processes,
        )


@dataclass(frozen=True)
class RunPlan:
    """Every optimizer step of a run, in order. `num_samples` is the length of each clip."""

    num_samples: tuple[int, ...]
    settings: PlanSettings
    seed: int
    num_epochs: int
    max_steps: int | None = None

    @cached_property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.max_steps is not None:
            return self.max_steps
        return sum(len(self.epoch(epoch)) for epoch in range(self.num_epochs))

    def updates(self, start_step: int = 0) -> Iterator[Update]:
        """The steps after `start_step`, which is the number already done."""
        step, epoch, total = 0, 0, self.total_steps
        while step < total:
            updates = self.epoch(epoch)
            for position, micro_batches in enumerate(updates[: total - step], start=1):
                if step + position > start_step:
                    yield Update(step + position, epoch + position / len(updates), tuple(micro_batches))
            step += len(updates)
            epoch += 1

    def epoch(self, epoch: int) -> list[list[MicroBatch]]:
        """The steps of one epoch, each a list of micro-batches."""
        return plan_epoch(self.num_samples, self.settings, seed=self.seed, epoch=epoch)


@lru_cache(maxsize=2)
def plan_epoch(
    num_samples: tuple[int, ...], settings: PlanSettings, *, seed: int, epoch: int
) -> list[list[MicroBatch]]:
    """The optimizer steps of one epoch, each a list of micro-batches; every clip appears once.

    Clips of like length share a micro-batch; micro-batches come in random order; steps hold nearly equal audio.
    """
    generator = derive_generator(seed, epoch, "plan")
    jitter = 1 + LENGTH_JITTER * (2 * torch.rand(len(num_samples), generator=generator) - 1)
    order = (torch.tensor(num_samples) * jitter).argsort(stable=True).tolist()
    groups = _fill(order, num_samples, settings)
    shuffled = [groups[index] for index in torch.randperm(len(groups), generator=generator).tolist()]
    batches = [MicroBatch(epoch, index, tuple(clips)) for index, clips in enumerate(shuffled)]
    if settings.batches_per_update is not None:
        size = settings.batches_per_update
        return [batches[start : start + size] for start in range(0, len(batches), size)]
    return _split_evenly(batches, num_samples, settings.update_samples)


def padding_share(updates: Sequence[Sequence[MicroBatch]], num_samples: Sequence[int]) -> float:
    """Share of the computed samples that is padding, when each micro-batch is padded to its longest clip."""
    padded = audio = 0
    for batch in (batch for update in updates for batch in update):
        lengths = [num_samples[clip] for clip in batch.clips]
        padded += max(lengths) * len(lengths)
        audio += sum(lengths)
    return 1 - audio / padded


def _fill(order: Sequence[int], num_samples: Sequence[int], settings: PlanSettings) -> list[list[int]]:
    """Cut clips, in order, into micro-batches that stay within the size after padding."""
    groups: list[list[int]] = []
    longest = 0
    for clip in order:
        longest = max(longest, num_samples[clip])
        group_size = len(groups[-1]) if groups else 0
        if settings.clips_per_batch is not None:
            fits = group_size < settings.clips_per_batch
        else:
            fits = (group_size + 1) * longest <= settings.batch_samples
        if groups and fits:
            groups[-1].append(clip)
        else:
            groups.append([clip])
            longest = num_samples[clip]
    return groups


def _split_evenly(
    batches: Sequence[MicroBatch], num_samples: Sequence[int], update_samples: float
) -> list[list[MicroBatch]]:
    """Consecutive micro-batches in steps of nearly equal audio, as near to `update_samples` as whole steps allow."""
    sizes = [sum(num_samples[clip] for clip in batch.clips) for batch in batches]
    total = sum(sizes)
    num_updates = max(1, min(len(batches), round(total / update_samples)))
    updates: list[list[MicroBatch]] = [[] for _ in range(num_updates)]
    before = 0
    for batch, size in zip(batches, sizes, strict=True):
        middle = before + size / 2
        updates[min(num_updates - 1, int(middle / total * num_updates))].append(batch)
        before += size
    return [update for update in updates if update]
