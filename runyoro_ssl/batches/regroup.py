"""A planned update on another machine: the same clips, in micro-batches of the size that machine takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runyoro_ssl.batches.lengths import Piece
from runyoro_ssl.batches.plan import MicroBatch, PlanSettings


@dataclass(frozen=True)
class Regroup:
    """A cut of updates planned with `planned` into micro-batches of `machine`'s size; none where both agree.

    Clips keep their crops, masks and negatives, which are drawn for each clip. What is drawn for a micro-batch
    (dropout, layer drop, Gumbel noise) and its share of the diversity loss are those of the new micro-batches.
    """

    planned: PlanSettings
    machine: PlanSettings

    @property
    def changes(self) -> bool:
        """Whether the machine cuts micro-batches anew."""
        sizes = [(settings.batch_samples, settings.clips_per_batch) for settings in (self.planned, self.machine)]
        return sizes[0] != sizes[1]

    def __call__(self, batches: Sequence[MicroBatch], num_samples: Sequence[int]) -> tuple[MicroBatch, ...]:
        """Cut the update's pieces by length, longest last; `num_samples` is the length of each clip."""
        if not self.changes:
            return tuple(batches)
        by_length: dict[int | None, list[Piece]] = {}
        for batch in batches:
            by_length.setdefault(batch.length, []).extend(batch.pieces)
        groups = [
            (group, length) for length, pieces in by_length.items() for group in self._cut(pieces, length, num_samples)
        ]
        first = batches[0]
        return tuple(
            MicroBatch(first.epoch, first.index, tuple(group), length, part=part)
            for part, (group, length) in enumerate(groups, start=1)
        )

    def _cut(self, pieces: Sequence[Piece], length: int | None, num_samples: Sequence[int]) -> list[list[Piece]]:
        if length is None:
            pieces = sorted(pieces, key=lambda piece: num_samples[piece.clip])
        else:  # what is padded stands together: the other micro-batches need no mask
            pieces = sorted(pieces, key=lambda piece: num_samples[piece.clip] < length)
        groups: list[list[Piece]] = []
        for piece in pieces:
            size = length or num_samples[piece.clip]
            if groups and len(groups[-1]) < self.machine.clips_of(size):
                groups[-1].append(piece)
            else:
                groups.append([piece])
        return groups
