"""Synthetic speech: seeded, with phones that are really there."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.audio.synth import SAMPLE_RATE, VOWELS, make_voices, synthesise, write_corpus


def spectrum_peak(wave: np.ndarray, low: float, high: float) -> float:
    """Frequency of the strongest component between two frequencies, Hz, of the smoothed spectrum."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8192)) ** 2
    hertz = np.fft.rfftfreq(8192, 1 / SAMPLE_RATE)
    smooth = np.convolve(power, np.hanning(120), mode="same")
    band = (hertz >= low) & (hertz <= high)
    return float(hertz[band][np.argmax(smooth[band])])


@pytest.mark.parametrize("number", range(3))
def test_vowels_have_their_formants(number: int) -> None:
    """The second formant of every vowel is where it should be for the voice, but for the distance of two harmonics."""
    voice = make_voices(3, np.random.default_rng(0))[number]
    for vowel, formants in VOWELS.items():
        wave, phones = synthesise([["w", vowel]], voice, np.random.default_rng(1))
        phone = phones[-1]
        part = wave[round(phone.start_sec * SAMPLE_RATE) : round(phone.end_sec * SAMPLE_RATE)]
        first, second, third = (voice.formant_scale * hertz for hertz in formants)
        found = spectrum_peak(part, (first * second) ** 0.5, (second * third) ** 0.5)
        assert found == pytest.approx(second, rel=0.1), vowel


def test_phones_cover_the_words_in_order() -> None:
    """Phones follow each other, inside the clip, and name what was asked."""
    wave, phones = synthesise(
        [["b", "a"], ["s", "i", "m", "u"]], make_voices(1, np.random.default_rng(0))[0], np.random.default_rng(2)
    )
    assert "".join(phone.symbol for phone in phones) == "basimu"
    starts = [phone.start_sec for phone in phones]
    assert starts == sorted(starts)
    assert phones[-1].end_sec < len(wave) / SAMPLE_RATE
    assert np.abs(wave).max() == pytest.approx(0.5)


def test_corpus_follows_its_seed(tmp_path: Path) -> None:
    """The same seed writes the same bytes; another one other words."""
    known = [write_corpus(tmp_path / str(run), num_clips=3, seed=seed) for run, seed in enumerate((5, 5, 6))]
    files = [sorted((tmp_path / str(run)).rglob("*.wav")) for run in range(3)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert known[0] == known[1] != known[2]


def test_voices_differ_in_pitch() -> None:
    """From low to high, as spread."""
    voices = make_voices(6, np.random.default_rng(0))
    assert all(low.pitch_hz < high.pitch_hz for low, high in itertools.pairwise(voices))
