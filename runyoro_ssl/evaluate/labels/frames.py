"""Phones as labels of the frames that a model gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.evaluate.grid import GRID


def frames_of(phone: Phone, num_frames: int) -> tuple[int, int]:
    """The frames whose centre lies in a phone, as first and end: [first, end) of `num_frames`."""
    bounds = (np.array([phone.start_sec, phone.end_sec]) - GRID.centres_sec(0, 1)) / GRID.frame_sec
    # Less the rounding of times that were divided and subtracted.
    first, end = np.clip(np.ceil(bounds - 1e-6), 0, num_frames).astype(int).tolist()
    return first, max(first, end)


def frame_labels(phones: Sequence[Phone] | None, num_frames: int) -> list[str | None]:
    """The phone at the centre of each frame of 20 ms; None where there is none."""
    labels: list[str | None] = [None] * num_frames
    for phone in phones or ():
        first, end = frames_of(phone, num_frames)
        labels[first:end] = [phone.symbol] * (end - first)
    return labels
