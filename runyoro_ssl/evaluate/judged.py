"""Whether a clip can be judged when it is held out: long enough to be masked, with frames that differ."""

from __future__ import annotations

import numpy as np

MIN_CLIP_SEC = 0.205
"""Ten frames of 20 ms, the first of 25: a span of validation's masks. A shorter clip is never masked."""
FEW_SEC = 60.0
"""Fewer held-out seconds hardly tell a gain from chance. The contrastive loss of 145 held-out clips of real speech,
5.8 s long, varied by 0.22 nats (standard deviation), its gain by 0.20: the mean of 60 s is known to 0.13 nats (95 %),
of 15 s to 0.26, and whole runs of a small model gained 0.23 to 0.28."""
WINDOW_SEC, HOP_SEC = 0.064, 0.016
"""The window tells tones from 50 Hz on from what changes."""
PAIR_HOPS = 7
"""Spectra 112 ms apart are compared: no window overlaps, and few things repeat so."""
LOWEST_HZ = 45.0
"""Below is the offset of a sound card, and its drift."""
MIN_CHANGE = 0.05
"""Share of their sum by which two spectra must differ: noise gives 0.4, a tone 26 dB above noise 0.05."""
QUIET = 1e-4
"""Differences of less than -80 dBFS are noise of 16 bits, however they are normalised."""
MIN_SHARE_CHANGING = 0.05
"""As many of the pairs must differ: what the silence filter asks, too."""
TOO_SHORT, ALIKE = "shorter than a mask", "its frames are all alike"


def why_not_judged(waveform: np.ndarray, sample_rate: int) -> str | None:
    """Say why a clip, float32 (T,) in [-1, 1], cannot be judged; None if it can.

    The contrastive task is to tell a frame from others of its clip. Where all are alike (digital silence, a dead
    microphone whatever its offset, a tone) every negative equals the answer, and no loss says anything.
    """
    if len(waveform) < MIN_CLIP_SEC * sample_rate:
        return TOO_SHORT
    return None if share_changing(waveform, sample_rate) >= MIN_SHARE_CHANGING else ALIKE


def share_changing(waveform: np.ndarray, sample_rate: int) -> float:
    """Share of a clip's frames whose spectrum differs from that 112 ms later. It takes 0.3 ms for a second."""
    size, hop = round(WINDOW_SEC * sample_rate), round(HOP_SEC * sample_rate)
    padded = np.pad(waveform, (0, max(0, size + PAIR_HOPS * hop - len(waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window = np.hanning(size).astype(np.float32)
    # So scaled, the norm of a spectrum is the root mean square of its frame.
    window *= np.sqrt(2.0 / (size * np.sum(window**2)))
    spectra = np.abs(np.fft.rfft(frames * window))[:, int(np.ceil(LOWEST_HZ * WINDOW_SEC)) :]
    norms = np.linalg.norm(spectra, axis=1)
    change = np.linalg.norm(spectra[PAIR_HOPS:] - spectra[:-PAIR_HOPS], axis=1)
    least = np.maximum(MIN_CHANGE * (norms[PAIR_HOPS:] + norms[:-PAIR_HOPS]), QUIET)
    return float(np.mean(change > least))
