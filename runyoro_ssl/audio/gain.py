"""The gain of recordings in floating point: their recorders have none, and leave it to whoever reads them."""

from __future__ import annotations

import numpy as np

FRAME_SEC = 0.025
FULL_SCALE_PEAK = 0.9
LOUD_PERCENTILE, QUIET_PERCENTILE = 99.0, 10.0
FAINTEST_DBFS = -40.0
"""Loud frames under this are raised; above, integer recordings pass, too."""
LOUD_DBFS = -20.0
"""Where loud frames are put, if the peak is no guide: a bump of the hand among quiet speech."""
TINY = 1e-30
STEADY_DB = 6.0
"""What does not swell by this is no speech, and is left as it is: the noise of a recorder left running."""


class GainFinder:
    """Finds what to multiply a recording in floating point by, from its samples, block by block."""

    def __init__(self, sample_rate: int) -> None:
        self._frame = max(1, round(FRAME_SEC * sample_rate))
        self._peak = 0.0
        self._powers: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        """Look at the next samples, float32 (T,), finite."""
        if len(block) < self._frame:
            return
        mean = float(block.mean())
        self._peak = max(self._peak, float(block.max()) - mean, mean - float(block.min()))
        frames = block[: len(block) // self._frame * self._frame].reshape(-1, self._frame)
        self._powers.append(frames.var(axis=1, dtype=np.float64))

    @property
    def gain(self) -> float:
        """1 for a recording within full scale that can be heard.

        Else what brings its peak to 0.9; or, where that would leave its loud frames faint, what brings those to
        -20 dBFS.
        """
        if not self._peak > 0.0:
            return 1.0
        power = np.concatenate(self._powers)
        loud, quiet = 10.0 * np.log10(np.percentile(power, (LOUD_PERCENTILE, QUIET_PERCENTILE)) + TINY)
        if self._peak <= 1.0 and (loud >= FAINTEST_DBFS or loud - quiet < STEADY_DB):
            return 1.0
        by_peak = FULL_SCALE_PEAK / self._peak
        if loud + 20.0 * np.log10(by_peak) >= FAINTEST_DBFS:
            return float(by_peak)
        return float(10.0 ** ((LOUD_DBFS - loud) / 20.0))
