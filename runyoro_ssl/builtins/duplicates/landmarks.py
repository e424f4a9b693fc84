"""Audio fingerprints: the spectral peaks of a clip, and hashes of three of them. After Wang 2003 and Six 2014.

A peak is where the spectrum between 250 and 1950 Hz is highest for 112 ms and 86 Hz around: such places survive codecs,
telephones, gain and some noise, and do not depend on where the clip begins.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

RATE_HZ = 4000
FRAME = 256
HOP = 64
"""Samples at `RATE_HZ`: frames of 64 ms every 16 ms."""
MAX_FRAMES = 1 << 16
"""What two bytes number: 17 minutes."""
BLOCK_FRAMES = 240
"""Larger blocks fall out of the cache; of smaller ones more is worked out twice, where they overlap."""
BINS = FRAME // 2 + 1
LOWEST_BIN, HIGHEST_BIN = 16, 124
"""250 to 1940 Hz."""
AROUND_FRAMES, AROUND_BINS = 7, 5
FLOOR_DB = -45.0
"""Peaks this far below the strongest of the clip are left out: they may be noise."""
QUIET = 1e-6
"""Below this nothing is a peak: dither, and rounding of digital silence."""
NUM_TARGETS = 4
"""A peak is hashed with every two of so many that follow it."""
MIN_STEP, MAX_STEP = 2, 63
"""Frames between two peaks of a hash."""
PEAK = np.dtype([("frame", "<u2"), ("bin", "u1")])


def peaks(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Find the spectral peaks of a mono waveform float32 (T,), in the order of time, as `PEAK` (num_peaks,)."""
    slow = np.pad(_decimate(waveform, max(1, round(sample_rate / RATE_HZ))), AROUND_FRAMES * HOP)
    frames = np.lib.stride_tricks.sliding_window_view(slow, FRAME)[::HOP][:MAX_FRAMES]
    found = [
        _peaks_in_block(frames[start : start + BLOCK_FRAMES + 2 * AROUND_FRAMES])
        for start in range(0, len(frames) - 2 * AROUND_FRAMES, BLOCK_FRAMES)
    ]
    if not found:
        return np.empty(0, PEAK)
    places = np.concatenate([cell + index * BLOCK_FRAMES * BINS for index, (cell, _) in enumerate(found)])
    powers = np.concatenate([power for _, power in found])
    frame, bin_ = np.divmod(places, BINS)
    floor = max(float(powers.max(initial=0.0)) * 10.0 ** (FLOOR_DB / 10.0), QUIET)
    kept = (powers > floor) & (bin_ >= LOWEST_BIN) & (bin_ < HIGHEST_BIN)
    landmarks = np.empty(np.count_nonzero(kept), PEAK)
    landmarks["frame"], landmarks["bin"] = frame[kept], bin_[kept]
    return landmarks


def _peaks_in_block(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places, frame x `BINS` + bin, of the peaks but for the first and last `AROUND_FRAMES` frames, and their power.

    Rows are joined to one long line, where a step in either direction is a shift: numpy is quickest so. The lowest
    and highest bins see cells of the next row, and are left out later.
    """
    spectrum = np.fft.rfft(frames * _window())
    power = (spectrum.real**2 + spectrum.imag**2).ravel()
    highest = _running_max(_running_max(power, 2 * AROUND_BINS + 1, 1), 2 * AROUND_FRAMES + 1, BINS)
    edge = AROUND_FRAMES * BINS
    # The running maximum at i covers the cells from i on: its middle is the cell in question.
    middle = power[edge + AROUND_BINS : edge + AROUND_BINS + len(highest)]
    cells = np.flatnonzero(middle == highest)
    return cells + AROUND_BINS, middle[cells]


def _running_max(values: np.ndarray, width: int, stride: int) -> np.ndarray:
    """Maximum over `width` cells `stride` apart, from each cell on; the width doubles at every step."""
    reached = 1
    while reached < width:
        step = min(reached, width - reached)
        values = np.maximum(values[: len(values) - step * stride], values[step * stride :])
        reached += step
    return values


def _decimate(waveform: np.ndarray, factor: int) -> np.ndarray:
    """Every `factor`-th sample of the waveform under a triangle of twice as many."""
    up = np.arange(1, factor + 1, dtype=np.float32)
    groups = waveform[: len(waveform) // factor * factor].reshape(-1, factor)
    halves = groups @ np.stack([up, up[::-1]], axis=1)
    return np.asarray(halves[:-1, 0] + halves[1:, 1]) / np.float32(up.sum() * 2)


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return np.hanning(FRAME).astype(np.float32)


def hashes(frame: np.ndarray, bin_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash every three peaks that belong together, for many clips at once: uint32, and the frame of the first.

    `frame` must be ascending, with more than `MAX_STEP` frames between clips. A hash holds the three bins, 7 bits each,
    and the steps in time to the second and third, halved, 5 bits each.
    """
    all_hashes, all_frames = [], []
    frame, bin_ = frame.astype(np.int64), bin_.astype(np.int64)
    first = np.searchsorted(frame, frame + MIN_STEP)
    for one in range(NUM_TARGETS):
        for other in range(one + 1, NUM_TARGETS):
            second, third = first + one, first + other
            anchors = np.flatnonzero(third < len(frame))
            second, third = second[anchors], third[anchors]
            step1, step2 = frame[second] - frame[anchors], frame[third] - frame[anchors]
            fits = step2 <= MAX_STEP
            anchors, second, third, step1, step2 = (a[fits] for a in (anchors, second, third, step1, step2))
            code = bin_[anchors]
            for value, bits in ((bin_[second], 7), (bin_[third], 7), (step1 // 2, 5), (step2 // 2, 5)):
                code = code << bits | value
            all_hashes.append(code)
            all_frames.append(frame[anchors])
    return np.concatenate(all_hashes).astype(np.uint32), np.concatenate(all_frames)
