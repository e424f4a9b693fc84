"""A recording of any length, heard window by window: the frames of each are those that lie well inside it.

A recording that fits into one window is heard whole. In a longer one each frame hears a sixth of the window at least to
both sides, but for its first and last frames, which have all there is. Attention reaches over the whole of what is
heard, so that a frame is nearly, not exactly, what it is where the recording is heard at once: docs/after-training.md
has what was measured. Samples are normalised over the whole recording, as the feature extractor does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runyoro_ssl.audio.blocks import SampleQueue
from runyoro_ssl.audio.decode import find_cut, stream
from runyoro_ssl.audio.notes import Notes
from runyoro_ssl.batches.build import NORMALISATION_EPSILON
from runyoro_ssl.errors import AudioError, EmbedError
from runyoro_ssl.model.frames import Frames

MARGIN_SHARE = 1 / 6
"""Of a window, at each of its ends, whose frames are another window's."""


@dataclass(frozen=True)
class Decoded:
    """A recording that was decoded once through: its samples at the model's rate, and how to normalise them."""

    path: Path
    num_samples: int
    mean: float
    scale: float
    """One over the standard deviation; 1 where the model takes samples as they are."""

    def normalized(self, samples: np.ndarray) -> np.ndarray:
        """float32 (T,) with the recording's mean taken away, and its deviation 1."""
        return ((samples - np.float32(self.mean)) * np.float32(self.scale)).astype(np.float32)


@dataclass(frozen=True)
class Window:
    """Samples float32 (T,), normalised; of the frames they make, those from `first` to before `last` are kept.

    The first of these is frame `start` of the recording.
    """

    samples: np.ndarray
    first: int
    last: int
    start: int


def listen(path: Path, frames: Frames, *, normalize: bool) -> tuple[Decoded, Notes]:
    """Decode a recording once through, a block at a time.

    Raises:
        EmbedError: No such file, no audio, or too short for a frame.
    """
    notes = Notes()
    num_samples, total, squares = 0, 0.0, 0.0
    for block in _blocks(path, frames.sample_rate, notes):
        samples = block.astype(np.float64)
        num_samples += len(block)
        total, squares = total + float(samples.sum()), squares + float(samples @ samples)
    if (missing := find_cut(path, num_samples / frames.sample_rate)) is not None:
        notes.flaws.append(missing)
    if frames.count(num_samples) == 0:
        length, least = num_samples / frames.sample_rate, frames.receptive / frames.sample_rate
        raise EmbedError(f"{path}: {length:.3f} s is too short for a frame, which takes {least:.3f} s; leave it out")
    if not normalize:
        return Decoded(path, num_samples, 0.0, 1.0), notes
    mean = total / num_samples
    variance = max(0.0, squares / num_samples - mean**2)
    return Decoded(path, num_samples, mean, float(1 / np.sqrt(variance + NORMALISATION_EPSILON))), notes


def cut(heard: Decoded, frames: Frames, window_sec: float) -> Iterator[Window]:
    """The windows of a recording, in order: each of its frames is kept of one of them."""
    total = frames.count(heard.num_samples)
    size = max(3, int(window_sec * frames.sample_rate - frames.receptive) // frames.stride + 1)
    margin = max(1, int(size * MARGIN_SHARE))
    queue, source = SampleQueue(), _blocks(heard.path, frames.sample_rate, Notes())
    tail, begin, kept = np.zeros(0, np.float32), 0, 0
    while kept < total:
        is_last = begin + size >= total
        wanted = heard.num_samples - begin * frames.stride if is_last else frames.num_samples(size)
        samples = np.concatenate([tail, _take(queue, source, wanted - len(tail))])
        stop = total if is_last else begin + size - margin
        yield Window(heard.normalized(samples), kept - begin, stop - begin, kept)
        step = size - 2 * margin
        tail, begin, kept = samples[step * frames.stride :], begin + step, stop


def _take(queue: SampleQueue, source: Iterator[np.ndarray], num_samples: int) -> np.ndarray:
    while queue.num_samples < num_samples and (block := next(source, None)) is not None:
        queue.add(block)
    return queue.take(num_samples)


def _blocks(path: Path, sample_rate: int, notes: Notes) -> Iterator[np.ndarray]:
    try:
        yield from stream(path, sample_rate=sample_rate, notes=notes)
    except AudioError as error:
        raise EmbedError(f"{path}: {error}") from None
