"""Speech found in a recording of any length, a stretch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.audio.blocks import SampleQueue
from runyoro_ssl.audio.vad import WARM_UP, WINDOW_SEC, speech_probabilities
from runyoro_ssl.errors import AudioError

STRETCH_WINDOWS = 10_000
"""320 s, 20 MB: what stands in memory at a time."""


@dataclass(frozen=True)
class SpeechTrack:
    """The speech of a recording as cutting needs it, a value for every 32 ms: 1 MB an hour.

    `speech` is the probability of speech, `power` the mean square; both float32 (W,). `num_samples` at
    `sample_rate` decoded; `error` is why no more did.
    """

    speech: np.ndarray
    power: np.ndarray
    num_samples: int
    sample_rate: int
    error: AudioError | None = None

    def sample(self, window: float) -> int:
        """The sample at which a window starts."""
        return min(self.num_samples, _samples(window, self.sample_rate))

    def speech_share(self, start: int, stop: int, threshold: float) -> float:
        """The share of the windows between two samples that are speech."""
        first, last = (round(sample / (WINDOW_SEC * self.sample_rate)) for sample in (start, stop))
        return float(np.mean(self.speech[first : max(last, first + 1)] >= threshold))


def track_speech(blocks: Iterable[np.ndarray], sample_rate: int) -> SpeechTrack:
    """Find the speech in a stream of float32 (T,) blocks, up to its end or to where it breaks."""
    speech, power = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    num_samples = 0
    before = np.zeros(0, np.float32)
    error = None
    for stretch in _stretches(blocks, _samples(STRETCH_WINDOWS, sample_rate)):
        if isinstance(stretch, AudioError):
            error = stretch
            break
        probabilities = speech_probabilities(np.concatenate([before, stretch]), sample_rate)
        found = probabilities[WARM_UP if len(before) else 0 :]
        speech.append(found)
        power.append(_power(stretch, len(found)))
        num_samples += len(stretch)
        before = stretch[-_samples(WARM_UP, sample_rate) :]
    return SpeechTrack(np.concatenate(speech), np.concatenate(power), num_samples, sample_rate, error)


def _samples(num_windows: float, sample_rate: int) -> int:
    return round(num_windows * WINDOW_SEC * sample_rate)


def _stretches(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray | AudioError]:
    """Blocks gathered to stretches of `size` samples; what came before an error, then the error."""
    waiting = SampleQueue()
    error = None
    try:
        for block in blocks:
            waiting.add(block)
            while waiting.num_samples >= size:
                yield waiting.take(size)
    except AudioError as caught:
        error = caught
    if waiting.num_samples:
        yield waiting.take(waiting.num_samples)
    if error is not None:
        yield error


def _power(waveform: np.ndarray, num_windows: int) -> np.ndarray:
    """Mean square of each window, float32 (num_windows,)."""
    edges = np.linspace(0, len(waveform), num_windows + 1).astype(np.int64)
    sums = np.add.reduceat(np.square(waveform, dtype=np.float32), edges[:-1])
    return (sums / np.maximum(1, np.diff(edges))).astype(np.float32)
