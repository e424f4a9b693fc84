"""A run on several sources of clips: which of them an epoch holds, so that each has its share of the audio.

An epoch is a pass over the first source, the target. The others are streams: one shuffled pass after another, of which
an epoch takes as much as their shares ask for. Where a stream stands follows from the audio planned so far.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch

from runyoro_ssl.batches.lengths import Piece
from runyoro_ssl.model.draws import derive_generator

TARGET = 0
"""The number of the source over which an epoch is a pass."""


@dataclass(frozen=True)
class MixedSource:
    """A source as the plan sees it: its number of clips, its share of the audio, and the steps at which it is heard."""

    num_clips: int
    share: float
    from_step: int = 0
    until_step: int | None = None

    def is_heard(self, step: int) -> bool:
        """Whether the optimizer step after so many others hears it."""
        return self.from_step <= step and (self.until_step is None or step < self.until_step)


@dataclass(frozen=True)
class EpochStart:
    """Where an epoch begins: the optimizer steps before it, and how far into its stream each source is, in samples."""

    epoch: int = 0
    step: int = 0
    places: tuple[float, ...] = ()


@dataclass(frozen=True)
class Mix:
    """The sources of a run; their clips are numbered through. The target comes first, and is heard at all steps."""

    sources: tuple[MixedSource, ...]

    @classmethod
    def of_one(cls, num_clips: int) -> Mix:
        """No mix at all: one source."""
        return cls((MixedSource(num_clips, share=1.0),))

    @cached_property
    def _stops(self) -> tuple[int, ...]:
        return tuple(accumulate(source.num_clips for source in self.sources))

    def clips_of(self, number: int) -> list[Piece]:
        """The clips of a source, whole."""
        return [Piece(clip) for clip in self._range_of(number)]

    def _range_of(self, number: int) -> range:
        return range(self._stops[number] - self.sources[number].num_clips, self._stops[number])

    def source_of(self, clip: int) -> int:
        """The number of the source of a clip."""
        return bisect_right(self._stops, clip)

    def heard_at(self, step: int) -> frozenset[int]:
        """The numbers of the sources that the optimizer step after so many others hears."""
        return frozenset(number for number, source in enumerate(self.sources) if source.is_heard(step))

    def next_change(self, step: int) -> int | None:
        """The first step after this one at which a source joins or ends."""
        return min((at for at in self._changes if at > step), default=None)

    def changes_at(self, step: int) -> bool:
        """Whether a source joins or ends after so many steps."""
        return step > 0 and step in self._changes

    @cached_property
    def _changes(self) -> frozenset[int]:
        both = (at for source in self.sources for at in (source.from_step, source.until_step))
        return frozenset(at for at in both if at is not None)

    def ratio(self, number: int) -> float:
        """Audio of a source for each sample of the target."""
        return self.sources[number].share / self.sources[TARGET].share

    def draw(self, number: int, num_samples: Sequence[int], begin: float, end: float, *, seed: int) -> list[Piece]:
        """The clips of a source between two places of its stream, in samples.

        A clip belongs to where its middle lies: what was drawn so far is at most half a clip off.
        """
        clips = self._range_of(number)
        sizes = np.asarray(num_samples[clips.start : clips.stop], dtype=np.int64)
        total = int(sizes.sum())
        turns = range(int(begin // total), int(end // total) + 1)
        drawn: list[Piece] = []
        for turn in turns:
            order = torch.randperm(len(sizes), generator=derive_generator(seed, "source", number, turn)).numpy()
            middles = turn * total + np.cumsum(sizes[order]) - sizes[order] / 2
            chosen = order[(middles >= begin) & (middles < end)].tolist()
            drawn += [Piece(clips.start + clip, repeat=turn - turns.start) for clip in chosen]
        return drawn


def planned_samples(pieces: Sequence[Piece], num_samples: Sequence[int]) -> int:
    """Audio of pieces before they are fitted to a length."""
    return sum(piece.num_samples(num_samples[piece.clip]) for piece in pieces)
