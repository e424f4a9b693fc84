"""A clip to hear and to see: MP3 and log-mel spectrogram, as data URIs."""

from __future__ import annotations

import base64
import io
import os
import tempfile

import numpy as np
import soundfile as sf
import soxr

PLAYER_RATE = 16_000
PLAYER_KBITS = 48
FULL_RANGE_KBITS = (160.0, 8.0)
"""What libsndfile's compression levels 0 and 1 mean at PLAYER_RATE; levels between are linear."""
NUM_MELS = 96
MAX_COLUMNS = 480
WINDOW_SEC = 0.025
HOP_SEC = 0.010
DYNAMIC_RANGE_DB = 70.0
FAINT_DB = -40.0
"""A band at this power is dark even if it is the loudest: digital silence. Full scale is about 40."""
MAGMA = ("000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf")
NUM_COLOURS = 64


def audio_uri(waveform: np.ndarray, sampling_rate: int) -> str:
    """Encode a float32 (T,) waveform as MP3, mono, PLAYER_KBITS; its level is left as it is."""
    if sampling_rate != PLAYER_RATE:
        waveform = soxr.resample(waveform, sampling_rate, PLAYER_RATE)
    most, least = FULL_RANGE_KBITS
    # A file, for in memory libsndfile calls Python back, and what a signal raises there, such as SIGTERM's, is lost.
    with tempfile.TemporaryFile() as encoded:
        sf.write(
            os.dup(encoded.fileno()),
            np.clip(waveform, -1.0, 1.0),
            PLAYER_RATE,
            format="MP3",
            subtype="MPEG_LAYER_III",
            bitrate_mode="CONSTANT",
            compression_level=(most - PLAYER_KBITS) / (most - least),
        )
        encoded.seek(0)
        return _data_uri("audio/mpeg", encoded.read())


def spectrogram_uri(waveform: np.ndarray, sampling_rate: int) -> str:
    """Draw a PNG of the log-mel spectrogram of a float32 (T,) waveform, low frequencies at the bottom."""
    from PIL import Image

    levels = np.rint((NUM_COLOURS - 1) * log_mel(waveform, sampling_rate)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(levels[::-1]))
    image.putpalette(palette())
    encoded = io.BytesIO()
    image.save(encoded, format="PNG", optimize=True)
    return _data_uri("image/png", encoded.getvalue())


def log_mel(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Compute log-mel power, (NUM_MELS, columns <= MAX_COLUMNS): 1 = loudest, 0 = DYNAMIC_RANGE_DB below or less."""
    size, hop = round(WINDOW_SEC * sampling_rate), round(HOP_SEC * sampling_rate)
    padded = np.pad(waveform, (0, max(0, size - len(waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    num_bins = 1 << (2 * size - 1).bit_length()
    power = np.abs(np.fft.rfft(frames * np.hanning(size), n=num_bins)) ** 2 @ mel_filters(num_bins, sampling_rate).T
    joined = -(-len(power) // MAX_COLUMNS)
    columns = power[: len(power) // joined * joined].reshape(-1, joined, NUM_MELS).mean(axis=1).T
    decibels = 10 * np.log10(columns + 1e-12)
    scaled: np.ndarray = np.clip(1 + (decibels - max(decibels.max(), FAINT_DB)) / DYNAMIC_RANGE_DB, 0.0, 1.0)
    return scaled


def mel_filters(num_bins: int, sampling_rate: int) -> np.ndarray:
    """Make triangular filters, evenly spaced in mel from 0 to half the rate: (NUM_MELS, num_bins // 2 + 1)."""
    place = mel_place(np.fft.rfftfreq(num_bins, 1 / sampling_rate), sampling_rate) * (NUM_MELS + 1)
    centres = np.arange(1, NUM_MELS + 1)[:, None]
    return np.maximum(0.0, 1.0 - np.abs(place[None, :] - centres))


def mel_place(hertz: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Place a frequency on the picture: 0 = bottom, 1 = top (half the rate). Mel after O'Shaughnessy."""
    place: np.ndarray = np.log1p(np.asarray(hertz) / 700.0) / np.log1p(sampling_rate / 2 / 700.0)
    return place


def palette() -> bytes:
    """Mix NUM_COLOURS RGB triples between the stops of matplotlib's magma: dark is faint, bright is loud."""
    stops = np.array([list(bytes.fromhex(stop)) for stop in MAGMA], dtype=np.float64)
    place = np.linspace(0, len(stops) - 1, NUM_COLOURS)
    columns = [np.interp(place, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.rint(np.stack(columns, axis=1)).astype(np.uint8).tobytes()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
