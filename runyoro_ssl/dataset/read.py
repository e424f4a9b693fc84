"""Read the clips of a prepared split, or windows of them, straight from its memory-mapped Arrow files."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

import numpy as np

from runyoro_ssl.errors import DatasetError

STEP = 1 / 32768
"""Of int16 in [-1, 1]: a power of two, so that scaling is exact."""


class Clips:
    """The waveforms of a split by row number, whatever shards and selections it is made of.

    Ten times quicker than a row in numpy format, which first gathers every sample into a new Arrow table. Only the
    pages of the samples asked for are touched. Picklable, as is the split, which a worker process maps anew.

    Raises:
        DatasetError: The column `audio` does not hold int16 samples; or a clip has none, or another number than its row
            states.
        IndexError: There is no such clip.
    """

    def __init__(self, split: Any) -> None:
        import pyarrow as pa

        column = split.data.column("audio")
        listed = pa.types.is_large_list(column.type) or pa.types.is_list(column.type)
        if not listed or column.type.value_type != pa.int16():
            raise DatasetError(f"column audio holds {column.type}, expected lists of int16; run `invoke prepare` again")
        self._split = split
        # `offsets` starts at the first row of a slice, and counts from the first sample of the unsliced `values`.
        self._shards = [(chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in column.chunks]
        self._first_rows = [0, *accumulate(len(offsets) - 1 for _, offsets in self._shards)]
        stated = "num_samples" in split.data.column_names
        self._stated = split.data.column("num_samples").to_numpy() if stated else None
        chosen = split._indices  # noqa: SLF001 - the rows of a select(); datasets has no public name for them
        self._rows = None if chosen is None else chosen.column(0).to_numpy()

    def __len__(self) -> int:
        return len(self._split)

    def __reduce__(self) -> tuple[type[Clips], tuple[Any]]:
        return Clips, (self._split,)

    def num_samples(self, clip: int) -> int:
        """Length of the clip, without reading it."""
        _, begin, end = self._find(clip)
        return end - begin

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """float32 (T,) in [-1, 1], unnormalised: the clip from sample `start`, at most `num_samples` of it."""
        samples, begin, end = self._find(clip)
        begin += start
        if num_samples is not None:
            end = min(end, begin + num_samples)
        waveform: np.ndarray = samples[begin:end].astype(np.float32)
        waveform *= STEP
        return waveform

    def _find(self, clip: int) -> tuple[np.ndarray, int, int]:
        """The samples of the clip's shard, and where in them the clip begins and ends."""
        if not 0 <= clip < len(self):
            raise IndexError(f"clip {clip} of {len(self)}")
        row = clip if self._rows is None else int(self._rows[clip])
        shard = bisect_right(self._first_rows, row) - 1
        samples, offsets = self._shards[shard]
        place = row - self._first_rows[shard]
        begin, end = int(offsets[place]), int(offsets[place + 1])
        if not 0 <= begin < end <= len(samples):
            raise DatasetError(f"damaged dataset: row {clip} is samples {begin} to {end} of {len(samples)}")
        if self._stated is not None and end - begin != self._stated[row]:
            raise DatasetError(f"damaged dataset: row {clip} has {end - begin} samples, states {self._stated[row]}")
        return samples, begin, end
