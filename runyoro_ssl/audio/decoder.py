"""The interface of a decoder: mono blocks at the file's own rate, and what the header states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from runyoro_ssl.errors import AudioError


class Source(Protocol):
    """An open recording, whatever library decodes it."""

    sample_rate: int
    num_channels: int
    stated_sec: float | None
    """Length by the header; None where it states none, or where what it states is known to be a guess."""
    is_float: bool
    """Whether its samples are floating-point numbers, which may stand at any level."""
    flaws: list[AudioError]
    """What is wrong with it, and did not keep it from being read; complete when its blocks have been read."""

    def blocks(self, start: int, count: int | None) -> Iterator[np.ndarray]:
        """Decode mono float32 blocks (T,), T <= `block_frames`, from frame `start`, `count` frames at most. Once only.

        None reads to the end of what there is, whatever the header states. A block may be empty.

        Raises:
            AudioError: With reason "unreadable", after the blocks that precede the damage.
        """
        ...

    def close(self) -> None:
        """Free the decoder; the file is the caller's."""
        ...


MAX_BLOCK_SEC = 16
MAX_BLOCK_VALUES = 1 << 19


def block_frames(sample_rate: int, num_channels: int) -> int:
    """The frames to decode at a time: a header that lies about its length costs one block, not its claim."""
    return max(1, min(MAX_BLOCK_SEC * sample_rate, MAX_BLOCK_VALUES // max(1, num_channels)))
