"""Which clips can be judged when they are held out: all of speech and noise, none in which nothing changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.evaluate.judged import ALIKE, TOO_SHORT, share_changing, why_not_judged

RATE = 16_000
TIME = np.arange(4 * RATE) / RATE


def noise(level: float) -> np.ndarray:
    """4 s of white noise."""
    return np.random.default_rng(0).normal(0, level, len(TIME))


def tone(hertz: float) -> np.ndarray:
    """4 s of a tone."""
    return 0.3 * np.sin(2 * np.pi * hertz * TIME)


def stored(waveform: np.ndarray) -> np.ndarray:
    """The waveform as a dataset gives it back: float32 of 16 bits."""
    samples: np.ndarray = np.rint(waveform * 32768).clip(-32768, 32767)
    return np.asarray(samples / 32768, np.float32)


DEAD = {
    "digital silence": 0 * TIME,
    "constant": 0 * TIME + 0.05,
    "constant with dither": 0.05 + noise(3e-5),
    "offset that drifts": 0.05 + 0.01 * np.sin(2 * np.pi * 0.1 * TIME),
    "mains hum": sum((tone(50 * n) / n for n in range(1, 7)), 0 * TIME),
    "mains hum of 60 Hz, and hiss": tone(60) / 15 + noise(2e-4),
    "dial tone": tone(350) + tone(440),
    "square": np.sign(tone(440)),
    "click a frame": 0.5 * (np.arange(len(TIME)) % 320 == 0),
    **{f"tone of {hertz} Hz": tone(hertz) for hertz in (50, 100, 441.3, 1000, 7900)},
}
ALIVE = {
    "loud noise": noise(0.1),
    "soft noise": noise(1e-3),
    "sweep": 0.3 * np.sin(2 * np.pi * (200 * TIME + 150 * TIME**2)),
    "engaged tone": tone(480) * (TIME % 1 < 0.5),
}


@pytest.mark.parametrize("name", DEAD)
def test_clip_in_which_nothing_changes_cannot_be_judged(name: str) -> None:
    """Every negative would equal the answer."""
    assert why_not_judged(stored(DEAD[name]), RATE) == ALIKE


@pytest.mark.parametrize("name", ALIVE)
def test_clip_in_which_something_changes_can_be_judged(name: str) -> None:
    """Whatever it is."""
    assert why_not_judged(stored(ALIVE[name]), RATE) is None


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_clip_shorter_than_a_mask_cannot_be_judged(rate: int) -> None:
    """Ten frames are 0.205 s, at any rate."""
    waveform = np.random.default_rng(0).normal(0, 0.1, rate).astype(np.float32)
    assert why_not_judged(waveform[: int(0.2 * rate)], rate) == TOO_SHORT
    assert why_not_judged(waveform[: int(0.21 * rate)], rate) is None
    assert why_not_judged(waveform[:0], rate) == TOO_SHORT


def test_synthetic_speech_changes_nearly_everywhere(corpus: Path) -> None:
    """Far from the least that is asked for."""
    for path in sorted(corpus.rglob("*.wav")):
        assert share_changing(sf.read(path, dtype="float32")[0], RATE) > 0.5


def test_real_speech_changes_nearly_everywhere(bantu: Path) -> None:
    """Of every 9th of 931 clips of field speech the least had 0.89."""
    for path in sorted(bantu.rglob("*.flac"))[::9]:
        assert share_changing(sf.read(path, dtype="float32")[0], RATE) > 0.8
