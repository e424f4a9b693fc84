"""Micro-batches: clips of like length, cut to the size a machine takes, and these into steps of nearly equal audio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
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
class Cutter:
    """How clips of these lengths become micro-batches. `lengths`: to which they are fitted; None: they keep theirs."""

    num_samples: tuple[int, ...]
    settings: PlanSettings
    lengths: Lengths | None

    def pieces(self, clips: Iterable[Piece]) -> list[Piece]:
        """What whole clips become: themselves, or two halves."""
        return list(clips) if self.lengths is None else self.lengths.halved(clips, self.num_samples)

    def steps(
        self, pieces: Sequence[Piece], generator: torch.Generator, *, epoch: int, first_index: int = 0
    ) -> list[list[MicroBatch]]:
        """The optimizer steps over pieces, each a list of micro-batches, which come in random order."""
        groups: Sequence[tuple[list[Piece], int | None]]
        if self.lengths is not None:
            groups = _fitted(pieces, self.num_samples, self.lengths, self.settings, generator)
        else:
            groups = _by_neighbours(pieces, self.num_samples, self.settings, generator)
        order = torch.randperm(len(groups), generator=generator).tolist()
        shuffled = enumerate((groups[index] for index in order), first_index)
        batches = [MicroBatch(epoch, index, tuple(group), length) for index, (group, length) in shuffled]
        if self.settings.batches_per_update is not None:
            size = self.settings.batches_per_update
            return [batches[start : start + size] for start in range(0, len(batches), size)]
        return _split_evenly(batches, self.num_samples, self.settings.update_samples)


def heard_samples(batches: Iterable[MicroBatch], num_samples: Sequence[int]) -> dict[tuple[int, int], int]:
    """Samples of each clip that micro-batches hear, by the clip and its repeat in the epoch."""
    heard: dict[tuple[int, int], int] = {}
    for batch in batches:
        for piece in batch.pieces:
            whole = num_samples[piece.clip]
            key = (piece.clip, piece.repeat)
            heard[key] = min(whole, heard.get(key, 0) + (batch.length or whole))
    return heard


def wasted_share(batches: Sequence[MicroBatch], num_samples: Sequence[int]) -> float:
    """Padding, audio computed twice and audio left out of an epoch, as a share of what was computed or left out."""
    longest = (batch.length or max(num_samples[clip] for clip in batch.clips) for batch in batches)
    computed = sum(length * len(batch.pieces) for batch, length in zip(batches, longest, strict=True))
    heard = heard_samples(batches, num_samples)
    left_out = sum(num_samples[clip] for clip, _ in heard) - sum(heard.values())
    return 1 - sum(heard.values()) / (computed + left_out)


def _by_neighbours(
    pieces: Sequence[Piece], num_samples: Sequence[int], settings: PlanSettings, generator: torch.Generator
) -> list[tuple[list[Piece], None]]:
    """Whole clips in order of length, cut into micro-batches that stay within the size after padding."""
    sizes = [num_samples[piece.clip] for piece in pieces]
    jitter = 1 + LENGTH_JITTER * (2 * torch.rand(len(sizes), generator=generator) - 1)
    order = (torch.tensor(sizes) * jitter).argsort(stable=True).tolist()
    groups: list[list[Piece]] = []
    longest = 0
    for index in order:
        longest = max(longest, sizes[index])
        if groups and len(groups[-1]) < settings.clips_of(longest):
            groups[-1].append(pieces[index])
        else:
            groups.append([pieces[index]])
            longest = sizes[index]
    return [(group, None) for group in groups]


def _fitted(
    pieces: Sequence[Piece],
    num_samples: Sequence[int],
    lengths: Lengths,
    settings: PlanSettings,
    generator: torch.Generator,
) -> list[tuple[list[Piece], int]]:
    """Pieces fitted to a few lengths, each with its constant number of pieces in a micro-batch.

    What does not fill a micro-batch moves to the next shorter length; one smaller micro-batch may remain at the end.
    Within a length, pieces to pad stand together: the other micro-batches need no attention mask.
    """
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
def best_lengths(num_samples: tuple[int, ...], settings: PlanSettings) -> Lengths | None:
    """The lengths for clips of these; None where clips keep theirs.

    Fewer than asked for, where clips are so few that incomplete micro-batches would cost more.
    """
    if not settings.num_lengths:
        return None

    def waste(lengths: Lengths) -> float:
        pieces = lengths.halved(map(Piece, range(len(num_samples))), num_samples)
        groups = _fitted(pieces, num_samples, lengths, settings, derive_generator("lengths"))
        return wasted_share([MicroBatch(0, 0, tuple(group), length) for group, length in groups], num_samples)

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
