"""Recordings decoded to mono float32 at the model's rate, trusting the samples and not the header."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import soxr

from runyoro_ssl.audio.decoder import Source
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.audio.sndfile import SoundFileSource, explain, is_unknown_format
from runyoro_ssl.errors import AudioError

MIN_SAMPLE_RATE = 4_000
MAX_SAMPLE_RATE = 384_000
MAX_CHANNELS = 64
MAX_RECORDING_SEC = 24 * 3600.0
"""A longer recording is a mistake, or a small file that unpacks without end."""
LENGTH_TOLERANCE_SEC = 0.1
"""Encoders pad and trim a frame or two; a clip shorter than stated by more than this, or 2 %, lacks audio; ..."""
NO_FILE = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR})
"""What the system says of names that no file can have. Anything else may pass: a disk or a share that failed."""
USEFUL_SEC = 15.0
"""A recording that is damaged after so much is used up to there; a shorter one is not worth the risk."""
MAX_TOLERANCE_SEC = 2.0
"""... and so does a recording shorter by more than this."""


@dataclass(frozen=True)
class AudioInfo:
    """What the decoder found: `num_frames` at `sample_rate` Hz, counted, not read from the header."""

    num_frames: int
    sample_rate: int
    num_channels: int
    flaw: AudioError | None = None
    """What is wrong with a recording that can be used nevertheless, as far as it goes."""

    @property
    def duration_sec(self) -> float:
        """The seconds of audio that really decode."""
        return self.num_frames / self.sample_rate


def probe(
    path: Path, *, max_seconds: float = MAX_RECORDING_SEC, on_block: Callable[[], None] = lambda: None
) -> AudioInfo:
    """Decode a whole file, a block at a time, and measure it.

    Args:
        path: As for `stream`.
        max_seconds: A file that states or decodes to more is refused; a header that says so costs nothing more.
        on_block: Called at the start, and with every block: a sign that decoding does not stand still.

    Raises:
        AudioError: As `stream`; or with reason "too long", or "truncated" (much shorter than its header says). But if
            `USEFUL_SEC` and more decode before, that is a flaw of the result.
    """
    on_block()
    with _open(path) as source:
        stated_sec = source.stated_sec
        limit = f"the limit is {timedelta(seconds=round(max_seconds))}; split it into shorter files"
        if stated_sec is not None and stated_sec > max_seconds:
            raise AudioError(Reason.TOO_LONG, f"its header says {timedelta(seconds=round(stated_sec))}, {limit}")
        num_frames = 0
        flaw = None
        try:
            for block in _finite(source.blocks(0, None)):
                on_block()
                num_frames += len(block)
                if num_frames > max_seconds * source.sample_rate:
                    break
        except AudioError as error:
            flaw = error
        info = AudioInfo(num_frames, source.sample_rate, source.num_channels, flaw)
    if info.duration_sec > max_seconds:
        raise AudioError(Reason.TOO_LONG, f"more decodes than is allowed: {limit}")
    if flaw is None and stated_sec is not None and is_shorter(info.duration_sec, stated_sec):
        flaw = AudioError(Reason.TRUNCATED, f"{info.duration_sec:.2f} s decode, its header says {stated_sec:.2f} s")
    if flaw is not None and info.duration_sec < USEFUL_SEC:
        raise flaw
    if num_frames == 0:
        raise AudioError(Reason.NO_SAMPLES, "the file decodes to nothing")
    return replace(info, flaw=flaw)


def stream(
    path: Path, *, sample_rate: int, offset_sec: float = 0.0, duration_sec: float | None = None
) -> Iterator[np.ndarray]:
    """Decode a file, or a part of it, as mono float32 blocks (T,) of at most about 16 s at `sample_rate` Hz.

    Memory is bounded by the block, whatever the header claims. What precedes an error is delivered before it is raised.
    A block may be empty: where a format must be decoded up to the offset, that tells that it goes on.

    Args:
        path: Any format libsndfile or FFmpeg reads; told by content, not by extension.
        sample_rate: Rate of the result, Hz. Resampled with soxr as a stream; channels are averaged.
        offset_sec: Where to start, seconds.
        duration_sec: How much to read, seconds, rounded to frames of the file; None reads to the end.

    Raises:
        AudioError: With reason "missing file", "empty file", "unreadable", "implausible sample rate", "implausible
            channels", "no samples" or "non-finite samples". Not "truncated": compare the length with what the
            manifest states.
    """
    num_samples = 0
    with _open(path) as source:
        start = round(offset_sec * source.sample_rate)
        count = None if duration_sec is None else round(duration_sec * source.sample_rate)
        blocks = _finite(source.blocks(start, count))
        if source.sample_rate != sample_rate:
            # Checked again: filters overshoot, and the largest floats become infinite.
            blocks = _finite(_resample(blocks, source.sample_rate, sample_rate))
        for block in blocks:
            num_samples += len(block)
            yield block
    if num_samples == 0:
        raise AudioError(Reason.NO_SAMPLES, f"nothing decodes after second {offset_sec:g}")


def decode(path: Path, *, sample_rate: int, offset_sec: float = 0.0, duration_sec: float | None = None) -> np.ndarray:
    """Decode a file, or a part of it, as one float32 array (T,): `stream`, joined; memory grows with the audio."""
    return np.concatenate(list(stream(path, sample_rate=sample_rate, offset_sec=offset_sec, duration_sec=duration_sec)))


def check_length(duration_sec: float, stated_sec: float, reason: str, who: str) -> None:
    """Raise AudioError(`reason`) if audio is much shorter than `who` states."""
    if is_shorter(duration_sec, stated_sec):
        raise AudioError(reason, f"{duration_sec:.2f} s decode, {who} says {stated_sec:.2f} s")


def is_shorter(duration_sec: float, stated_sec: float) -> bool:
    """Whether audio is shorter than stated by more than rounding and padding explain."""
    return duration_sec < stated_sec - max(LENGTH_TOLERANCE_SEC, min(0.02 * stated_sec, MAX_TOLERANCE_SEC))


@contextmanager
def _open(path: Path) -> Iterator[Source]:
    """Open a file with the decoder that knows it, and refuse what no recorder writes."""
    try:
        if not path.is_file():
            raise AudioError(Reason.MISSING_FILE, "no such file")
        if path.stat().st_size == 0:
            raise AudioError(Reason.EMPTY_FILE, "0 bytes")
        file = path.open("rb", buffering=0)
    except OSError as error:
        reason = Reason.UNREADABLE if error.errno in NO_FILE else Reason.NOT_OPENED
        raise AudioError(reason, str(error.strerror)) from None
    with file, closing(_source(file)) as source:
        if not MIN_SAMPLE_RATE <= source.sample_rate <= MAX_SAMPLE_RATE:
            raise AudioError(Reason.SAMPLE_RATE, f"{source.sample_rate} Hz")
        if source.num_channels > MAX_CHANNELS:
            raise AudioError(Reason.CHANNELS, f"{source.num_channels}")
        yield source


def _source(file: BinaryIO) -> Source:
    """Libsndfile, which is quicker, or else FFmpeg, which knows more; of two refusals the better informed is told."""
    try:
        return SoundFileSource(file)
    except sf.LibsndfileError as error:
        refusal = error
    from runyoro_ssl.audio.pyav import PyAVSource

    file.seek(0)
    try:
        return PyAVSource(file)
    except AudioError as error:
        if is_unknown_format(refusal) or error.reason != Reason.UNREADABLE:
            raise
        raise AudioError(Reason.UNREADABLE, explain(refusal)) from None


def _finite(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks, up to the first that holds NaN or infinity."""
    for block in blocks:
        if not np.isfinite(block).all():
            raise AudioError(Reason.NON_FINITE, "NaN or infinity in the audio")
        yield block


def _resample(blocks: Iterator[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Resample a stream of float32 blocks."""
    stream = soxr.ResampleStream(from_rate, to_rate, num_channels=1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
