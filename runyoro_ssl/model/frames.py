"""How a model cuts time into frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Frames:
    """How a model cuts time: frame i hears `receptive` samples from i times `stride` on, at `sample_rate` Hz."""

    stride: int
    receptive: int
    sample_rate: int

    @classmethod
    def of(cls, config: Any, sample_rate: int) -> Frames:
        """Those of a Wav2Vec2Config."""
        receptive, stride = 1, 1
        for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
            receptive += (kernel - 1) * stride
            stride *= step
        return cls(stride, receptive, sample_rate)

    @property
    def frame_sec(self) -> float:
        """From a frame to the next, seconds."""
        return self.stride / self.sample_rate

    def count(self, num_samples: int) -> int:
        """Frames of so many samples."""
        return max(0, (num_samples - self.receptive) // self.stride + 1)

    def num_samples(self, num_frames: int) -> int:
        """The fewest samples that make so many frames."""
        return (num_frames - 1) * self.stride + self.receptive

    def centres_sec(self, start: int, stop: int) -> np.ndarray:
        """The middle of each frame from `start` to before `stop`. float64, seconds."""
        return (np.arange(start, stop) * self.stride + self.receptive / 2) / self.sample_rate
