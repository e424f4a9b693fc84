"""The measures of clips as people read them: labels, units, columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.page.amounts import number
from runyoro_ssl.prepare.accounts import ClipRecord


@dataclass(frozen=True)
class Measure:
    """A measure as people read it: its value times `scale`, in `unit`."""

    label: str
    unit: str
    digits: int = 1
    scale: float = 1.0

    def text(self, value: float) -> str:
        """A value in the unit of the measure."""
        return f"{number(value * self.scale, self.digits)} {self.unit}".rstrip()


MEASURES = {
    "snr_db": Measure("SNR", "dB"),
    "level_dbfs": Measure("Level", "dBFS"),
    "peak_dbfs": Measure("Peak", "dBFS"),
    "bandwidth_hz": Measure("Bandwidth", "kHz", scale=1e-3),
    "clipped_share": Measure("Clipped", "%", digits=2, scale=100.0),
    "hum_db": Measure("Mains hum", "dB"),
    "music": Measure("Music", "", digits=2),
    "active_share": Measure("Active", "%", digits=0, scale=100.0),
    "speech_share": Measure("Speech", "%", digits=0, scale=100.0),
    "dc_offset": Measure("DC offset", "%", digits=2, scale=100.0),
}


def column(clips: Sequence[ClipRecord], name: str) -> np.ndarray:
    """One measure of every clip, float64 (len(clips),); NaN where it was not measured or is not finite."""
    values = np.array([clip.measures.get(name, math.nan) for clip in clips], dtype=np.float64)
    values[~np.isfinite(values)] = math.nan
    return values


def measured(clip: ClipRecord) -> list[tuple[str, str]]:
    """The measures that are known of a clip, as (label, text)."""
    known = ((measure, clip.measures.get(name, math.nan)) for name, measure in MEASURES.items())
    return [(measure.label, measure.text(value)) for measure, value in known if math.isfinite(value)]
