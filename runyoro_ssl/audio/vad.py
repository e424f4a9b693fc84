"""Voice activity: how likely each 32 ms of a waveform is speech, by silero-vad, whose weights ship in its package."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

VAD_RATE = 16_000
WINDOW_SEC = 0.032
WINDOW = round(WINDOW_SEC * VAD_RATE)
LANES = 16
"""Stretches of one waveform that the network runs over side by side: five times as fast as one after the other."""
WARM_UP = 31
"""Windows (1 s) by which a lane starts early, to know what came before: decisions then differ from those of one
long pass in 0.6 % of windows, all of them at the edges of speech."""
MIN_LANE = 62
"""Windows (2 s): a shorter waveform has fewer lanes, or it would be all warm-up."""


def speech_probabilities(waveform: np.ndarray, sample_rate: int = VAD_RATE) -> np.ndarray:
    """Compute the probability of speech in each window of 32 ms.

    Args:
        waveform: float32 (T,) in [-1, 1]; at other rates than 16 kHz it is resampled first.
        sample_rate: Hz.

    Returns:
        float32 (ceil(T / window),). Window i starts at sample round(i x 0.032 x sample_rate).
    """
    import torch

    if sample_rate != VAD_RATE:
        import soxr

        waveform = soxr.resample(waveform, sample_rate, VAD_RATE, quality="MQ")
    num_windows = -(-len(waveform) // WINDOW)
    if num_windows == 0:
        return np.zeros(0, np.float32)
    num_lanes = min(LANES, max(1, num_windows // MIN_LANE))
    lane_windows = -(-num_windows // num_lanes)
    padded = np.zeros((WARM_UP + num_lanes * lane_windows) * WINDOW, np.float32)
    padded[WARM_UP * WINDOW :][: len(waveform)] = waveform
    lanes = np.lib.stride_tricks.sliding_window_view(padded, (WARM_UP + lane_windows) * WINDOW)
    windows = torch.from_numpy(lanes[:: lane_windows * WINDOW].copy()).view(num_lanes, -1, WINDOW)
    model = _model()
    model.reset_states()
    with torch.inference_mode():
        found = [model(windows[:, index], VAD_RATE) for index in range(windows.shape[1])]
    probabilities: np.ndarray = torch.cat(found[WARM_UP:], dim=1).flatten()[:num_windows].numpy()
    return probabilities


@cache
def _model() -> Any:
    """The network, loaded once a process, on one thread: there is a process for each core."""
    import torch
    from silero_vad import load_silero_vad

    torch.set_num_threads(1)
    return load_silero_vad()
