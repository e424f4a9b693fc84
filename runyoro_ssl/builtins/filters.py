"""Built-in filters of `prepare`: duration, silence, clipping."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from runyoro_ssl import hookimpl

if TYPE_CHECKING:
    from runyoro_ssl.config import Config
    from runyoro_ssl.hookspecs import Register, Utterance

FRAME_SEC = 0.025


@dataclass(frozen=True)
class DurationFilter:
    """Drops clips shorter than the minimum. Longer ones were cut before, so there is no maximum."""

    min_duration_sec: float

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare in samples: an exact minimum passes."""
        minimum = round(self.min_duration_sec * utterance.sample_rate)
        return "too short" if utterance.num_samples < minimum else None


@dataclass(frozen=True)
class SilenceFilter:
    """Drops clips with hardly any frame above a level: recorders left running, dead channels.

    A 25 ms frame is active when its RMS exceeds `threshold_dbfs` (dB re full scale); a clip passes when at least
    `min_active_share` of its frames are.
    """

    threshold_dbfs: float = -55.0
    min_active_share: float = 0.05

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the share of active frames with the minimum."""
        size = round(FRAME_SEC * utterance.sample_rate)
        wave = utterance.waveform
        frames = wave[: len(wave) // size * size].reshape(-1, size) if len(wave) >= size else wave[None, :]
        power = np.einsum("ft,ft->f", frames, frames) / frames.shape[1]
        active = np.mean(power > 10.0 ** (self.threshold_dbfs / 10.0))
        return "silence" if active < self.min_active_share else None


@dataclass(frozen=True)
class ClippingFilter:
    """Drops clips whose samples sit at full scale: overdriven recordings.

    A sample is clipped when its magnitude is at least `level` of full scale.
    """

    level: float = 0.999
    max_clipped_share: float = 0.01

    def __call__(self, utterance: Utterance) -> str | None:
        """Compare the share of clipped samples with the maximum."""
        num_clipped = np.count_nonzero(np.abs(utterance.waveform) >= self.level)
        return "clipping" if num_clipped / utterance.num_samples > self.max_clipped_share else None


@hookimpl
def runyoro_manifest_filters(register: Register, config: Config) -> None:
    """Register the three filters; the duration filter takes its minimum from the configuration."""
    register("duration", partial(DurationFilter, min_duration_sec=config.prepare.min_duration_sec))
    register("silence", SilenceFilter)
    register("clipping", ClippingFilter)
