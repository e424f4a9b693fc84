"""What should not change what is said: noise, and another speed."""

from __future__ import annotations

from typing import Literal

import numpy as np

from runyoro_ssl.model.draws import derive_seed

Perturbation = Literal["none", "noise", "speed"]
NOISE_DB = 10.0
"""Speech above the noise: a market street."""
SPEED = 1.1
"""Times as fast, and so much higher: another voice, too."""


def perturb(waveform: np.ndarray, how: Perturbation, clip_id: str, sampling_rate: int) -> np.ndarray:
    """Change a clip, float32 (T,), so that a listener still understands it; the same for every model.

    "noise": noise with the clip's own spectrum, 10 dB below it. "speed": 1.1 times as fast, (T / 1.1,).
    """
    if how == "noise":
        return _add_noise(waveform, np.random.default_rng(derive_seed("evaluate", "noise", clip_id)))
    if how == "speed":
        import soxr

        return np.asarray(soxr.resample(waveform, sampling_rate * SPEED, sampling_rate, quality="HQ"), np.float32)
    return waveform


def _add_noise(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Noise of random phases under the clip's own magnitudes, smoothed over frequency."""
    spectrum = np.abs(np.fft.rfft(waveform)) ** 2
    width = max(1, len(spectrum) // 80)  # 100 Hz at 16 kHz
    smooth = np.sqrt(np.convolve(spectrum, np.full(width, 1 / width), mode="same"))
    phases = np.exp(2j * np.pi * generator.random(len(smooth)))
    noise = np.fft.irfft(smooth * phases, len(waveform))
    loudness = np.sqrt(float(np.mean(waveform.astype(np.float64) ** 2)) / max(float(np.mean(noise**2)), 1e-20))
    return np.asarray(waveform + 10 ** (-NOISE_DB / 20) * loudness * noise, np.float32)


def frames_after(frames: np.ndarray, how: Perturbation) -> np.ndarray:
    """Where frames (positions, may be fractions) lie after a change."""
    return frames / SPEED if how == "speed" else frames
