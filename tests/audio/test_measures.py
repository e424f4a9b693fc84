"""The measures: known faults are read back as they were added, and no clip breaks them."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from runyoro_ssl.audio.measures import measure

RATE = 16_000


@pytest.fixture(scope="module")
def speech(bantu: Path) -> list[np.ndarray]:
    """Every 20th real clip."""
    found = [sf.read(path, dtype="float32")[0] for path in sorted(bantu.rglob("*.flac"))[::20]]
    assert len(found) > 40
    return found


def with_added(clip: np.ndarray, fault: np.ndarray, ratio_db: float) -> np.ndarray:
    """The clip plus a fault whose power is this far below its own."""
    gain = np.sqrt(np.mean(clip**2) / np.mean(fault**2)) * 10.0 ** (-ratio_db / 20.0)
    return np.asarray(clip + gain * fault, np.float32)


def chords(seconds: float, seed: int) -> np.ndarray:
    """Organ-like triads that change every 1.5 s."""
    generator = np.random.default_rng(seed)
    time_sec = np.arange(round(seconds * RATE)) / RATE
    wave = 1e-4 * generator.normal(size=len(time_sec))
    for start in np.arange(0.0, seconds, 1.5):
        held = (time_sec >= start) & (time_sec < start + 1.5)
        root = 130.8 * 2.0 ** (generator.integers(12) / 12)
        for note, overtone in np.ndindex(3, 8):
            hz = root * (1.0, 1.26, 1.5)[note] * (overtone + 1)
            wave[held] += 0.05 / (overtone + 1) * np.sin(2 * np.pi * hz * time_sec[held])
    return np.asarray(wave, np.float32)


@pytest.mark.parametrize(
    "clip",
    [
        np.zeros(0),
        np.zeros(1),
        np.ones(1),
        np.zeros(RATE),
        np.full(RATE, 0.5),
        np.sign(np.sin(np.arange(RATE) / 10)),
        np.full(RATE, 1e-20),
        np.ones(500),
        np.tile([1.0, -1.0], RATE),
        np.ones(20_000),
    ],
    ids=["empty", "one zero", "one", "silence", "constant", "square", "denormal", "short", "Nyquist", "full scale"],
)
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100])
def test_every_measure_is_finite(clip: np.ndarray, sample_rate: int) -> None:
    """Whatever the clip, and at other rates."""
    found = asdict(measure(clip.astype(np.float32), sample_rate))
    assert all(math.isfinite(value) for value in found.values()), found
    assert 0.0 <= found["music"] <= 1.0
    assert 0.0 <= found["active_share"] <= 1.0


def test_level_peak_clipping_and_offset_are_those_of_the_formula() -> None:
    """A sine of amplitude 0.5 on an offset of 0.1, which is no sound; a tenth of it at full scale."""
    clip = (0.1 + 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
    found = measure(clip, RATE)
    assert found.level_dbfs == pytest.approx(10 * np.log10(0.125), abs=0.01)
    assert found.peak_dbfs == pytest.approx(20 * np.log10(0.6), abs=0.01)
    assert found.dc_offset == pytest.approx(0.1, abs=1e-4)
    assert found.clipped_share == 0.0
    clip[::10] = -1.0
    assert measure(clip, RATE).clipped_share == pytest.approx(0.1)


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_noise_is_read_back_as_added(speech: list[np.ndarray], snr_db: int) -> None:
    """White noise on clean speech: the median within 3 dB; and less noise never reads as more."""
    noise = np.random.default_rng(0)
    clean = [clip for clip in speech if measure(clip, RATE).snr_db > 30]
    found = [measure(with_added(clip, noise.normal(size=len(clip)), snr_db), RATE).snr_db for clip in clean]
    assert len(clean) >= 5
    assert np.median(found) == pytest.approx(snr_db, abs=3)


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_hum_stands_out_the_more_there_is_of_it(speech: list[np.ndarray], mains_hz: int) -> None:
    """Four harmonics at -40, -20, -10 dB; speech alone does not look like hum."""
    medians = []
    for ratio_db in (200, 40, 20, 10):
        found = []
        for clip in speech:
            time_sec = np.arange(len(clip)) / RATE
            hum = sum(np.sin(2 * np.pi * mains_hz * number * time_sec) / number for number in (1, 2, 3, 4))
            found.append(measure(with_added(clip, np.asarray(hum), ratio_db), RATE).hum_db)
        medians.append(float(np.median(found)))
    assert medians == sorted(medians)
    assert medians[0] < 10
    assert medians[-1] > 20


def test_telephone_speech_is_told_from_wide_band(speech: list[np.ndarray]) -> None:
    """Real speech through 8 kHz and back to 16 kHz."""
    for clip in speech:
        narrow = soxr.resample(soxr.resample(clip, RATE, 8_000), 8_000, RATE)
        assert measure(narrow, RATE).bandwidth_hz <= 4_000 < measure(clip, RATE).bandwidth_hz


def test_music_is_told_from_speech_and_from_noise(speech: list[np.ndarray]) -> None:
    """Chords are likely music; speech, babble and noise are not."""
    generator = np.random.default_rng(0)
    assert all(measure(chords(8, seed), RATE).music > 0.9 for seed in range(4))
    assert np.mean([measure(clip, RATE).music > 0.6 for clip in speech]) < 0.05
    babble = np.asarray(np.sum([np.resize(clip, 8 * RATE) for clip in speech[:8]], axis=0), np.float32)
    noise = generator.normal(size=8 * RATE).astype(np.float32) / 10
    assert max(measure(babble, RATE).music, measure(noise, RATE).music) < 0.3


def test_one_clip_is_analysed_once_and_a_changed_one_again() -> None:
    """The waveform of an utterance is read-only: its answer is kept. A writable array may have changed."""
    clip = np.random.default_rng(0).normal(size=RATE).astype(np.float32) / 10
    before = measure(clip, RATE)
    clip += 0.25
    assert measure(clip, RATE).dc_offset == pytest.approx(before.dc_offset + 0.25, abs=1e-4)
    clip.flags.writeable = False
    assert measure(clip, RATE) is measure(clip, RATE)
    other = clip.copy()
    other.flags.writeable = False
    assert measure(other, RATE) == measure(clip, RATE)


def test_it_is_quick() -> None:
    """It runs on every clip: far under a thousandth of real time, even on a busy machine."""
    clip = np.random.default_rng(0).normal(size=15 * RATE).astype(np.float32) / 10
    measure(clip, RATE)
    took = []
    for _ in range(10):
        started = time.perf_counter()
        measure(clip, RATE)
        took.append(time.perf_counter() - started)
    assert min(took) / 15 < 0.5e-3
