"""Features: computed once, kept by what they depend on, never more than there is room for."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.evaluate.heard.clips import HeldOut, choose_clips
from runyoro_ssl.evaluate.heard.features import LARGEST_HALF, FeatureCache
from runyoro_ssl.evaluate.perturb import NOISE_DB, SPEED, perturb


class Counting:
    """A subject of two layers that counts what it is asked."""

    name, num_layers = "counting", 2

    def __init__(self, key: str = "counting-1") -> None:
        self.key, self.asked = key, 0

    def features(self, waveform: np.ndarray) -> list[np.ndarray]:
        """The clip's own samples, every 320th; and numbers that float16 cannot hold."""
        self.asked += 1
        frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
        return [frames[:, :4], np.full((len(frames), 1), 1e9, np.float32)]


@pytest.fixture
def held_out(dataset: Path) -> HeldOut:
    """The held-out clips of a dataset."""
    return choose_clips(dataset, sampling_rate=16_000, max_seconds=600)


def test_features_are_computed_once(held_out: HeldOut, tmp_path: Path) -> None:
    """For the same weights, clips and change; clip by clip as they were, in half precision."""
    cache, subject = FeatureCache(tmp_path), Counting()
    indices = range(len(held_out.clips))
    found = cache.get(subject, held_out, "none", indices)
    assert subject.asked == len(indices)
    again = cache.get(subject, held_out, "none", indices)
    assert subject.asked == len(indices)
    assert (found.layer(0) == again.layer(0)).all()
    for clip, index in zip(found.clips(0), indices, strict=True):
        expected = held_out.waveform(index)
        assert clip == pytest.approx(expected[: len(expected) // 320 * 320].reshape(-1, 320)[:, :4], abs=1e-3)
    assert found.layer(1).max() <= LARGEST_HALF
    assert np.diff(found.starts).tolist() == [len(clip) for clip in found.clips(1)]
    cache.get(subject, held_out, "noise", indices)
    cache.get(subject, held_out, "none", [0])
    cache.get(Counting("counting-2"), held_out, "none", indices)
    assert len(list(tmp_path.iterdir())) == 4


def test_damaged_features_are_computed_anew(held_out: HeldOut, tmp_path: Path) -> None:
    """Cut, or without their description."""
    cache, subject = FeatureCache(tmp_path), Counting()
    (folder,) = [cache.get(subject, held_out, "none", [0]).folder]
    (folder / "layer-00.f16").write_bytes(b"12")
    assert len(cache.get(subject, held_out, "none", [0]).layer(0)) > 1
    (folder / "features.json").write_text("{")
    cache.get(subject, held_out, "none", [0])
    assert subject.asked == 3


def test_what_was_used_longest_ago_goes(held_out: HeldOut, tmp_path: Path) -> None:
    """Until the rest has room."""
    cache = FeatureCache(tmp_path)
    got = [cache.get(Counting(f"n{number}"), held_out, "none", [0]) for number in range(3)]
    cache.release(got)
    folders = [one.folder for one in got]
    for age, folder in enumerate(folders):
        os.utime(folder, (100 + age, 100 + age))
    size = sum(file.stat().st_size for file in folders[0].iterdir())
    replace(cache, max_bytes=2 * size + 10).trim()
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_what_is_needed_stays_until_it_is_released(held_out: HeldOut, tmp_path: Path) -> None:
    """Whatever room there is; then it goes, and what came after it is still there."""
    cache = FeatureCache(tmp_path, max_bytes=1)
    first, second = (cache.get(Counting(f"n{number}"), held_out, "none", [0]) for number in range(2))
    assert first.folder.exists()
    assert second.folder.exists()
    cache.release([first])
    assert [one.folder.exists() for one in (first, second)] == [False, True]
    assert len(second.layer(0)) > 1


def test_what_another_process_needs_stays(held_out: HeldOut, tmp_path: Path) -> None:
    """Until that releases it; whoever has got the same needs it no less."""
    mine, other = FeatureCache(tmp_path, max_bytes=1), FeatureCache(tmp_path, max_bytes=1)
    theirs = other.get(Counting(), held_out, "none", [0])
    found = mine.get(Counting(), held_out, "none", [0])
    mine.release([found])
    assert len(theirs.layer(0)) > 1
    other.release([theirs])
    assert not theirs.folder.exists()


def test_two_processes_compute_the_same(held_out: HeldOut, tmp_path: Path) -> None:
    """Each begins before the other has ended: both get it, and nothing is left beside it."""
    both_began = threading.Barrier(2)

    class Meeting(Counting):
        def features(self, waveform: np.ndarray) -> list[np.ndarray]:
            both_began.wait(timeout=60)
            return super().features(waveform)

    caches = [FeatureCache(tmp_path), FeatureCache(tmp_path)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda cache: cache.get(Meeting(), held_out, "none", [0, 1]), caches)
    assert (first.layer(0) == second.layer(0)).all()
    assert list(tmp_path.iterdir()) == [first.folder] == [second.folder]


def test_noise_lies_below_speech_and_has_its_colour() -> None:
    """By 10 dB, with most of its energy where the clip has its own; the same for the same clip."""
    time = np.arange(32_000) / 16_000
    clip = (0.3 * np.sin(2 * np.pi * 500 * time)).astype(np.float32)
    noisy = perturb(clip, "noise", "a", 16_000)
    noise = noisy - clip
    assert 10 * np.log10(np.mean(clip**2) / np.mean(noise**2)) == pytest.approx(NOISE_DB, abs=0.1)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    assert spectrum[800:1200].sum() > 0.9 * spectrum.sum()  # 400 to 600 Hz
    assert (perturb(clip, "noise", "a", 16_000) == noisy).all()
    assert (perturb(clip, "noise", "b", 16_000) != noisy).any()


def test_faster_is_shorter_and_higher() -> None:
    """By a tenth."""
    clip = np.sin(2 * np.pi * 500 * np.arange(32_000) / 16_000).astype(np.float32)
    faster = perturb(clip, "speed", "a", 16_000)
    assert len(faster) == pytest.approx(32_000 / SPEED, abs=2)
    peak = np.abs(np.fft.rfft(faster[:16_000])).argmax()
    assert peak == pytest.approx(500 * SPEED, abs=1)
