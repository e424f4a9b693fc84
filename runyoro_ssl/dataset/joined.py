"""The clips of several datasets as one, numbered through, as a run on several sources reads them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from runyoro_ssl.dataset.read import Clips


class JoinedClips:
    """The clips of several splits, one after the other. Each is read, and held against its checksum, by its own split.

    `names`: of the datasets that they are of. Picklable, as its parts are.
    """

    def __init__(self, parts: Sequence[Clips], names: Sequence[str]) -> None:
        self._parts, self._names = tuple(parts), tuple(names)
        self._stops = tuple(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._stops[-1]

    def num_samples(self, clip: int) -> int:
        """The length of a clip, without reading it."""
        number, row = self._find(clip)
        return self._parts[number].num_samples(row)

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Read a clip, or a window of it, as `Clips.waveform`."""
        number, row = self._find(clip)
        return self._parts[number].waveform(row, start, num_samples)

    def place(self, clip: int) -> tuple[str, int]:
        """The name of the dataset that a clip is of, and its row there."""
        number, row = self._find(clip)
        return self._names[number], row

    def shrunk(self) -> str | None:
        """A file of them that is shorter than when this was made, in words, if there is any."""
        return next((found for part in self._parts if (found := part.shrunk())), None)

    def changed(self) -> str | None:
        """Why a process that opened their files now would read other clips, in words, if it would."""
        return next((found for part in self._parts if (found := part.changed())), None)

    def _find(self, clip: int) -> tuple[int, int]:
        if not 0 <= clip < len(self):
            raise IndexError(f"clip {clip} of {len(self)}")
        number = bisect_right(self._stops, clip)
        return number, clip - (self._stops[number - 1] if number else 0)
