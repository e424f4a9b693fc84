"""Decode recordings to mono float32 at the model's rate, trusting the samples and not the header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from runyoro_ssl.errors import AudioError

BLOCK_FRAMES = 1 << 18
"""Frames decoded at a time: a header that lies about its length costs one block, not its claim."""
MIN_SAMPLE_RATE = 4_000
MAX_SAMPLE_RATE = 384_000
MAX_CHANNELS = 64
LENGTH_TOLERANCE_SEC = 0.1
"""Encoders pad and trim a frame or two; a clip shorter than stated by more than this, or 2 %, lacks audio."""


@dataclass(frozen=True)
class AudioInfo:
    """What the decoder found: `num_frames` at `sample_rate` Hz, counted, not read from the header."""

    num_frames: int
    sample_rate: int
    num_channels: int

    @property
    def duration_sec(self) -> float:
        """Seconds of audio that really decode."""
        return self.num_frames / self.sample_rate


def probe(path: Path) -> AudioInfo:
    """Decode a whole file and measure it.

    Raises:
        AudioError: With reason "missing file", "empty file", "unreadable", "implausible sample rate", "no samples",
            "non-finite samples" or "truncated" (much shorter than its header says).
    """
    with _open(path) as file:
        num_frames = sum(len(block) for block in _blocks(file, 0, None))
        stated = file.frames
        info = AudioInfo(num_frames, file.samplerate, file.channels)
    if num_frames == 0:
        raise AudioError("no samples", "the file decodes to nothing")
    # Streams of unknown length carry a huge sentinel (libsndfile reports 2**63 - 1): that states nothing.
    if stated < MAX_SAMPLE_RATE * 86_400 * 7:
        check_length(info.duration_sec, stated / info.sample_rate, "truncated", "its header")
    return info


def decode(path: Path, *, sample_rate: int, offset_sec: float = 0.0, duration_sec: float | None = None) -> np.ndarray:
    """Decode a file, or a part of it, as mono float32 (T,) at `sample_rate` Hz; channels are averaged.

    Args:
        path: Any format libsndfile reads; told by content, not by extension.
        sample_rate: Rate of the result, Hz. Resampled with soxr, high quality, as a stream.
        offset_sec: Where to start, seconds.
        duration_sec: How much to read, seconds; None reads to the end.

    Raises:
        AudioError: As `probe`, but for "truncated": compare the length with what the manifest states.
    """
    with _open(path) as file:
        start = round(offset_sec * file.samplerate)
        count = None if duration_sec is None else round(duration_sec * file.samplerate)
        blocks = _blocks(file, start, count)
        if file.samplerate != sample_rate:
            blocks = _resample(blocks, file.samplerate, sample_rate)
        parts = list(blocks)
    waveform = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if len(waveform) == 0:
        raise AudioError("no samples", f"nothing decodes after second {offset_sec:g}")
    return waveform


def check_length(duration_sec: float, stated_sec: float, reason: str, who: str) -> None:
    """Raise AudioError(`reason`) when audio is much shorter than `who` states."""
    if is_shorter(duration_sec, stated_sec):
        raise AudioError(reason, f"{duration_sec:.2f} s decode, {who} says {stated_sec:.2f} s")


def is_shorter(duration_sec: float, stated_sec: float) -> bool:
    """Whether the difference is more than rounding and padding explain."""
    return duration_sec < stated_sec - max(LENGTH_TOLERANCE_SEC, 0.02 * stated_sec)


@contextmanager
def _open(path: Path) -> Iterator[sf.SoundFile]:
    """Open a file; whatever libsndfile complains of, then or while reading, becomes an AudioError."""
    try:
        if not path.is_file():
            raise AudioError("missing file", "no such file")
        if path.stat().st_size == 0:
            raise AudioError("empty file", "0 bytes")
        opened = sf.SoundFile(path)
    except (sf.SoundFileError, OSError, TypeError, ValueError) as error:
        # TypeError: headerless .raw; ValueError: a name no file can have.
        raise AudioError("unreadable", _explain(error, path)) from None
    try:
        with opened as file:
            if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
                raise AudioError("implausible sample rate", f"{file.samplerate} Hz")
            if file.channels > MAX_CHANNELS:
                raise AudioError("implausible channels", f"{file.channels}")
            yield file
    except (sf.SoundFileError, OSError) as error:
        raise AudioError("unreadable", _explain(error, path)) from None


def _explain(error: Exception, path: Path) -> str:
    """Libsndfile's own words without the path; its word for an MP3 without one good frame misleads."""
    message = str(error).replace(f"Error opening {str(path)!r}: ", "").strip(" .")
    return "no audio found in it" if message.startswith("File does not exist") else message


def _blocks(file: sf.SoundFile, start: int, count: int | None) -> Iterator[np.ndarray]:
    """Mono float32 blocks of a file, from frame `start`, at most `count` frames."""
    if start:
        if start >= file.frames:
            return
        file.seek(start)
    left = count
    while left is None or left > 0:
        block = _read(file, BLOCK_FRAMES if left is None else min(BLOCK_FRAMES, left))
        if len(block) == 0:
            return
        if not np.isfinite(block).all():
            raise AudioError("non-finite samples", "NaN or infinity in the audio")
        if left is not None:
            left -= len(block)
        yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)


def _read(file: sf.SoundFile, num_frames: int) -> np.ndarray:
    """float32 (at most `num_frames`, channels) in [-1, 1]."""
    block: np.ndarray
    if file.subtype != "PCM_16":
        block = file.read(num_frames, dtype="float32", always_2d=True)
        return block
    # The same numbers as libsndfile's own floats, which for WAV take four times as long.
    block = file.read(num_frames, dtype="int16", always_2d=True).astype(np.float32)
    block *= 1 / 32768
    return block


def _resample(blocks: Iterator[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Resample a stream of float32 blocks."""
    stream = soxr.ResampleStream(from_rate, to_rate, num_channels=1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
