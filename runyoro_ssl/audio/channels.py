"""Channels mixed to one, and numbers that are none taken out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError

CANCEL = 10.0 ** (-12.0 / 10.0)
"""Power of the mean of two channels, over that of the channels, below which they are taken to cancel. Channels that
have nothing in common give 1/2, one dead channel of two the same."""

ABOUT = 10.0 ** (3.0 / 10.0)


@dataclass
class Mixer:
    """Mixes blocks of a recording, and counts what it had to do otherwise. `sample_rate` is in Hz."""

    sample_rate: int
    chosen_frames: dict[int, int] = field(default_factory=dict)
    """Frames for which one channel stands, by its number, the last chosen last."""

    def mix(self, block: np.ndarray) -> np.ndarray:
        """Mix float32 (channels, T) to (T,): the mean, or the strongest channel where the channels cancel."""
        if len(block) == 1 or block.shape[1] == 0:
            only: np.ndarray = block[0]
            return only
        mean: np.ndarray = block[0] + block[1]
        for channel in block[2:]:
            mean += channel
        mean *= np.float32(1 / len(block))
        powers = [_power(channel) for channel in block]
        if _power(mean) >= CANCEL * 2 / len(block) * float(np.mean(powers)):
            return mean
        chosen = self._choose(powers)
        self.chosen_frames[chosen] = self.chosen_frames.pop(chosen, 0) + block.shape[1]
        return np.ascontiguousarray(block[chosen])

    def _choose(self, powers: list[float]) -> int:
        """The strongest channel; the one that was chosen before, as long as it is about as strong."""
        strongest = int(np.argmax(powers))
        before = next(reversed(self.chosen_frames), strongest)
        return before if powers[before] * ABOUT >= powers[strongest] else strongest

    @property
    def flaw(self) -> AudioError | None:
        """What was done otherwise, in words."""
        if not self.chosen_frames:
            return None
        seconds = sum(self.chosen_frames.values()) / self.sample_rate
        names = " and ".join(str(channel + 1) for channel in sorted(self.chosen_frames))
        return AudioError(Reason.CHANNELS_CANCEL, f"channel {names} alone is used for {seconds:.1f} s")


def _power(wave: np.ndarray) -> float:
    """Mean square without the mean, which a fault of the sound card adds."""
    return float(np.dot(wave, wave)) / max(1, len(wave)) - float(wave.mean()) ** 2
