"""Channels mixed to one, and numbers that are none taken out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from runyoro_ssl.audio.notes import LARGEST
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError

CANCEL = 10.0 ** (-12.0 / 10.0)
"""Power of the mean of two channels, over that of the channels, below which they are taken to cancel. Channels that
have nothing in common give 1/2, one dead channel of two the same."""

ABOUT = 10.0 ** (3.0 / 10.0)
CELL_SEC = 0.5
"""For so long at a time it is decided: a plug may be pushed in midway."""
FAINT = 10.0 ** (-40.0 / 10.0)
"""Power of a cell, over that of the loudest, below which the one before decides: hum may cancel in pauses."""


@dataclass
class Mixer:
    """Mixes blocks of a recording, and counts what it had to do otherwise. `sample_rate` is in Hz."""

    sample_rate: int
    chosen_frames: dict[int, int] = field(default_factory=dict)
    """Frames for which one channel stands, by its number, the last chosen last."""
    mended_frames: int = 0
    """Frames in which some channels, not all, hold no number."""
    _num_frames: int = 0
    _loudest: float = 0.0
    _is_cancelled: bool = False

    def mix(self, block: np.ndarray) -> np.ndarray:
        """Mix float32 (channels, T) to (T,): the mean, or the strongest channel where the channels cancel.

        Where some hold no number (NaN, infinity), the mean of the others; where all do, none.
        """
        if len(block) == 1 or block.shape[1] == 0:
            only: np.ndarray = block[0]
            return only
        mean = _mean(block)
        if float(mean.max()) <= LARGEST and float(mean.min()) >= -LARGEST:
            return self._mix_cells(block, mean)
        is_bad = ~(np.abs(block) <= LARGEST)
        is_lost = is_bad.all(axis=0)
        self.mended_frames += int(np.count_nonzero(is_bad.any(axis=0) & ~is_lost))
        values = np.where(is_bad, np.float32(0), block)
        others = values.sum(axis=0) / np.maximum(1, (~is_bad).sum(axis=0, dtype=np.float32))
        values = np.where(is_bad, others, values)
        mixed = self._mix_cells(values, _mean(values))
        mixed[is_lost] = np.nan
        return mixed

    def _mix_cells(self, block: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Replace in the mean of a block what cancels."""
        size = max(1, round(CELL_SEC * self.sample_rate))
        begun = self._num_frames % size
        self._num_frames += len(mean)
        for first in range(-begun, len(mean), size):
            place = slice(max(0, first), first + size)
            cell = block[:, place]
            powers = [_power(channel) for channel in cell]
            power = float(np.mean(powers))
            if power >= FAINT * self._loudest:
                least = CANCEL * 2 / len(block) * power
                self._is_cancelled = _power(mean[place]) < least
            self._loudest = max(self._loudest, power)
            if self._is_cancelled:
                chosen = self._choose(powers)
                self.chosen_frames[chosen] = self.chosen_frames.pop(chosen, 0) + cell.shape[1]
                mean[place] = cell[chosen]
        return mean

    def _choose(self, powers: list[float]) -> int:
        """The strongest channel; the one that was chosen before, as long as it is about as strong."""
        strongest = int(np.argmax(powers))
        before = next(reversed(self.chosen_frames), strongest)
        return before if powers[before] * ABOUT >= powers[strongest] else strongest

    @property
    def flaws(self) -> list[AudioError]:
        """What was done otherwise, in words."""
        found = []
        if self.chosen_frames:
            seconds = sum(self.chosen_frames.values()) / self.sample_rate
            names = " and ".join(str(channel + 1) for channel in sorted(self.chosen_frames))
            found.append(AudioError(Reason.CHANNELS_CANCEL, f"channel {names} alone is used for {seconds:.1f} s"))
        if self.mended_frames:
            detail = (
                f"some channels hold no number (NaN or infinity) {self.mended_frames:,} times, and the others stand"
            )
            found.append(AudioError(Reason.NON_FINITE, detail))
        return found


def _mean(block: np.ndarray) -> np.ndarray:
    mean: np.ndarray = block[0] + block[1]
    for channel in block[2:]:
        mean += channel
    mean *= np.float32(1 / len(block))
    return mean


def _power(wave: np.ndarray) -> float:
    """Mean square without the mean, which a fault of the sound card adds."""
    return float(np.dot(wave, wave)) / max(1, len(wave)) - float(wave.mean()) ** 2
