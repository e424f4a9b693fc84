"""Synthetic speech: consonant-vowel syllables by source and filter, in several voices, with every phone known.

A glottal source (harmonics of a falling, jittered pitch) is shaped by the formants of vowels, nasals and glides;
noise shaped by a band makes fricatives and the bursts of stops. Syllables come as words of a small lexicon, so that,
as in a language, context tells about what is hidden. Nothing here is a recording: it is data for `invoke smoke`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000
MAX_HARMONIC_HZ = 5_000.0

VOWELS: dict[str, tuple[float, float, float]] = {
    "a": (750, 1300, 2500),
    "e": (480, 1900, 2600),
    "i": (300, 2250, 3000),
    "o": (480, 900, 2450),
    "u": (320, 750, 2350),
}
"""Formants 1 to 3 of a grown voice, Hz."""
SONORANTS: dict[str, tuple[float, float, float]] = {
    "m": (260, 1100, 2200),
    "n": (260, 1600, 2500),
    "r": (420, 1300, 1700),
    "w": (320, 700, 2300),
    "y": (280, 2150, 2900),
}
NOISES: dict[str, tuple[float, float, float]] = {
    "b": (200, 1200, 0.025),
    "t": (2500, 5500, 0.035),
    "k": (1200, 2800, 0.045),
    "s": (4200, 7800, 0.110),
    "h": (600, 3500, 0.080),
}
"""Band of the noise (low, high, Hz) and its duration (seconds). Short ones are bursts after a closure."""
CONSONANTS = (*SONORANTS, *NOISES)
FORMANT_BANDWIDTHS = (80.0, 110.0, 160.0)
CLOSURE_SEC = 0.05
MAX_BURST_SEC = 0.05


@dataclass(frozen=True)
class Phone:
    """One phone of an utterance, in seconds from its start."""

    symbol: str
    start_sec: float
    end_sec: float


@dataclass(frozen=True)
class Voice:
    """A speaker: pitch in Hz, formant scale (a shorter vocal tract is above 1), rate, and breath noise."""

    name: str
    pitch_hz: float
    formant_scale: float
    rate: float
    breath: float


def make_voices(num_voices: int, rng: np.random.Generator) -> list[Voice]:
    """Make voices that spread from low and long to high and short, each with its own rate."""
    spread = np.linspace(0.0, 1.0, num_voices)
    return [
        Voice(
            name=f"voice{index}",
            pitch_hz=float(95 + 120 * place + rng.uniform(-8, 8)),
            formant_scale=float(0.95 + 0.2 * place),
            rate=float(rng.uniform(0.9, 1.15)),
            breath=float(rng.uniform(0.005, 0.02)),
        )
        for index, place in enumerate(spread)
    ]


def make_lexicon(num_words: int, rng: np.random.Generator) -> list[list[str]]:
    """Make words of two or three consonant-vowel syllables."""
    return [
        [
            phone
            for _ in range(rng.integers(2, 4))
            for phone in (str(rng.choice(CONSONANTS)), str(rng.choice([*VOWELS])))
        ]
        for _ in range(num_words)
    ]


def synthesise(
    words: Sequence[Sequence[str]], voice: Voice, rng: np.random.Generator
) -> tuple[np.ndarray, list[Phone]]:
    """Speak words with short pauses between them. Returns float32 (T,) at 16 kHz, and its phones."""
    parts: list[np.ndarray] = [np.zeros(round(0.1 * SAMPLE_RATE))]
    phones: list[Phone] = []
    for word in words:
        for symbol, following in zip(word, [*word[1:], None], strict=True):
            part = _sound(symbol, following, voice, rng)
            start = sum(map(len, parts)) / SAMPLE_RATE
            phones.append(Phone(symbol, start, start + len(part) / SAMPLE_RATE))
            parts.append(part)
        parts.append(np.zeros(round(rng.uniform(0.03, 0.09) * SAMPLE_RATE)))
    wave = np.concatenate(parts)
    wave = wave + voice.breath * 0.1 * rng.standard_normal(len(wave))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32), phones


def write_corpus(
    folder: Path, *, num_clips: int, num_voices: int = 6, num_words: int = 12, clip_sec: float = 3.0, seed: int = 0
) -> dict[str, list[Phone]]:
    """Write `<voice>/<clip>.wav` files of at least `clip_sec` seconds; returns the phones by relative path."""
    import soundfile as sf

    rng = np.random.default_rng([seed, 0])
    voices, lexicon = make_voices(num_voices, rng), make_lexicon(num_words, rng)
    known: dict[str, list[Phone]] = {}
    for index in range(num_clips):
        clip_rng = np.random.default_rng([seed, 1, index])
        voice = voices[index % num_voices]
        words: list[list[str]] = []
        # A phone lasts about 0.1 s.
        while sum(len(word) for word in words) * 0.1 / voice.rate < clip_sec:
            words.append(lexicon[int(clip_rng.integers(num_words))])
        wave, phones = synthesise(words, voice, clip_rng)
        path = Path(voice.name) / f"clip{index:04d}.wav"
        (folder / voice.name).mkdir(parents=True, exist_ok=True)
        sf.write(folder / path, wave, SAMPLE_RATE, subtype="PCM_16")
        known[path.as_posix()] = phones
    return known


def _sound(symbol: str, following: str | None, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """One phone: float64 (T,)."""
    stretch = float(rng.uniform(0.9, 1.1)) / voice.rate
    if symbol in NOISES:
        low, high, duration = NOISES[symbol]
        noise = 0.35 * _band_noise(round(duration * stretch * SAMPLE_RATE), low, high, rng)
        if duration < MAX_BURST_SEC:
            return np.concatenate([np.zeros(round(CLOSURE_SEC * stretch * SAMPLE_RATE)), noise])
        return noise
    if symbol in SONORANTS:
        aim = VOWELS.get(following or "", SONORANTS[symbol])
        return 0.6 * _voiced(SONORANTS[symbol], aim, 0.075 * stretch, voice, rng)
    return _voiced(VOWELS[symbol], VOWELS[symbol], 0.125 * stretch, voice, rng)


def _voiced(
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    duration_sec: float,
    voice: Voice,
    rng: np.random.Generator,
) -> np.ndarray:
    """Harmonics of the glottal source through formants that glide from `start` to `end`."""
    size = round(duration_sec * SAMPLE_RATE)
    time = np.linspace(0.0, 1.0, size)
    pitch = voice.pitch_hz * (1.03 - 0.06 * time) * (1 + 0.02 * rng.standard_normal())
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    harmonics = np.arange(1, int(MAX_HARMONIC_HZ / pitch.max()) + 1)[:, None]
    hertz = harmonics * pitch
    gain = np.zeros_like(hertz)
    # The second half of a sonorant leads into its vowel.
    glide = np.clip(2 * time - 1, 0, 1)
    for first, last, width in zip(start, end, FORMANT_BANDWIDTHS, strict=True):
        formant = voice.formant_scale * (first + (last - first) * glide)
        gain += 1.0 / (1.0 + ((hertz - formant) / width) ** 2)
    source_tilt = 1.0 / np.sqrt(harmonics)
    wave = np.sum(gain * source_tilt * np.sin(harmonics * phase), axis=0)
    shaped: np.ndarray = wave * _envelope(size)
    return shaped


def _band_noise(size: int, low_hz: float, high_hz: float, rng: np.random.Generator) -> np.ndarray:
    """White noise between two frequencies, with an even envelope."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectrum[(hertz < low_hz) | (hertz > high_hz)] = 0
    noise: np.ndarray = np.fft.irfft(spectrum, size)
    noise *= _envelope(size) / (np.abs(noise).max() + 1e-9)
    return noise


def _envelope(size: int) -> np.ndarray:
    """Flat, with 8 ms ramps against clicks."""
    ramp = min(round(0.008 * SAMPLE_RATE), size // 2)
    envelope = np.ones(size)
    envelope[:ramp] = np.linspace(0, 1, ramp)
    envelope[size - ramp :] = np.linspace(1, 0, ramp)
    return envelope
