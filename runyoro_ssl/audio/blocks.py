"""Blocks of a stream, regrouped into the lengths that are needed."""

from __future__ import annotations

from collections import deque

import numpy as np


class SampleQueue:
    """Samples that have come and are not yet used. What is taken from the front is copied once at most."""

    def __init__(self) -> None:
        self.num_samples = 0
        self._blocks: deque[np.ndarray] = deque()

    def add(self, block: np.ndarray) -> None:
        """Append a block, float32 (T,)."""
        self._blocks.append(block)
        self.num_samples += len(block)

    def take(self, num_samples: int) -> np.ndarray:
        """Remove the first `num_samples`, or all if there are fewer, and return them."""
        parts = self._remove(num_samples)
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])

    def skip(self, num_samples: int) -> int:
        """Remove the first `num_samples`, or all if there are fewer; returns how many."""
        return sum(map(len, self._remove(num_samples)))

    def _remove(self, num_samples: int) -> list[np.ndarray]:
        parts = []
        while num_samples > 0 and self._blocks:
            block = self._blocks.popleft()
            if len(block) > num_samples:
                self._blocks.appendleft(block[num_samples:])
            parts.append(block[:num_samples])
            num_samples -= len(parts[-1])
            self.num_samples -= len(parts[-1])
        return parts
