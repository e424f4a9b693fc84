"""Example plugin: a filter that drops clips recorded too quietly.

Enable it, and set its threshold:

    invoke prepare --set 'plugins.filters=["duration", "silence", "clipping", "duplicates", "loudness"]' \
                   --set plugins.options.loudness.min_dbfs=-45
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from runyoro_ssl import hookimpl
from runyoro_ssl.plugin.spec import Utterance

requires_runyoro_ssl = ">=0.1,<1"


@dataclass(frozen=True)
class LoudnessFilter:
    """Drops clips whose RMS level, in dB re full scale, is below `min_dbfs`.

    A class at the top of its module can be sent to worker processes; a function inside a function cannot.
    """

    min_dbfs: float = -40.0

    def __call__(self, utterance: Utterance) -> str | None:
        """Return the reason to drop the clip, or None to keep it."""
        power = float(np.mean(np.square(utterance.waveform)))
        level_dbfs = 10 * np.log10(power + 1e-12)
        return "too quiet" if level_dbfs < self.min_dbfs else None


@hookimpl
def runyoro_manifest_filters(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """Offer the filter under the name "loudness"; its options are the arguments of the class."""
    register("loudness", LoudnessFilter)
