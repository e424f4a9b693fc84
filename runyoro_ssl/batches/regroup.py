"""A planned update on another machine: the same clips, in micro-batches of the size that machine takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runyoro_ssl.batches.lengths import Piece
from runyoro_ssl.batches.micro_batches import MicroBatch, PlanSettings

HALVINGS = 12
"""Of the range in which the size of even micro-batches is looked for."""


@dataclass(frozen=True)
class Regroup:
    """A cut of updates planned with `planned` into micro-batches of `machine`'s size; none where both agree.

    Where clips keep their lengths, the micro-batches of an update are as even as can be, and so many that each process
    has equally many. Clips keep their crops, masks and negatives, which are drawn for each clip. What is drawn for a
    micro-batch (dropout, layer drop, Gumbel noise) and its share of the diversity loss are those of the new ones.
    """

    planned: PlanSettings
    machine: PlanSettings
    num_processes: int = 1

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
        if length is not None:  # what is padded stands together: the other micro-batches need no mask
            pieces = sorted(pieces, key=lambda piece: num_samples[piece.clip] < length)
            size = self.machine.clips_of(length)
            return [list(pieces[start : start + size]) for start in range(0, len(pieces), size)]
        pieces = sorted(pieces, key=lambda piece: num_samples[piece.clip])
        sizes = [num_samples[piece.clip] for piece in pieces]
        edges = self._edges(sizes)
        return [list(pieces[start:end]) for start, end in itertools.pairwise(edges)]

    def _edges(self, sizes: Sequence[int]) -> list[int]:
        """Where micro-batches of clips of these lengths, ascending, begin and end."""
        edges = _fill(sizes, self.machine.clips_of)
        if self.machine.clips_per_batch is not None or self.machine.batch_samples <= sizes[-1]:
            return edges
        wanted = -(-(len(edges) - 1) // self.num_processes) * self.num_processes
        enough, too_little = self.machine.batch_samples, float(sizes[-1])
        for _ in range(HALVINGS):
            middle = (enough + too_little) / 2
            found = _fill(sizes, replace(self.machine, batch_samples=middle).clips_of)
            if len(found) - 1 <= wanted:
                edges, enough = found, middle
            else:
                too_little = middle
        while len(edges) - 1 < min(wanted, len(sizes)):
            several = [group for group in itertools.pairwise(edges) if group[1] - group[0] > 1]
            begin, end = max(several, key=lambda group: (group[1] - group[0]) * sizes[group[1] - 1])
            edges = sorted([*edges, (begin + end) // 2])
        return edges


def _fill(sizes: Sequence[int], clips_of: Callable[[int], int]) -> list[int]:
    """Fill micro-batches one after the other, each as far as its longest clip allows; where they begin and end."""
    edges, begin = [0], 0
    for index, size in enumerate(sizes):
        if index > begin and index - begin >= clips_of(size):
            edges.append(index)
            begin = index
    return [*edges, len(sizes)]
