"""The frames in which everything is compared: those of wav2vec 2.0."""

from __future__ import annotations

from runyoro_ssl.hub.known import SAMPLING_RATE
from runyoro_ssl.model.frames import Frames

GRID = Frames(stride=320, receptive=400, sample_rate=SAMPLING_RATE)
"""25 ms, every 20 ms. A model that cuts time otherwise is not compared."""
