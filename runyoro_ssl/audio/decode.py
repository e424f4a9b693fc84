"""Recordings decoded to mono float32 at the model's rate, trusting the samples and not the header."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import soxr

from runyoro_ssl.audio.decoder import Source
from runyoro_ssl.audio.gain import GainFinder
from runyoro_ssl.audio.notes import Notes, silence_gaps
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.audio.rest import find_again
from runyoro_ssl.audio.samples import find_samples, has_chunks
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
FLAC = b"fLaC"
USEFUL_SEC = 15.0
"""A recording that is damaged after so much is used up to there; a shorter one is not worth the risk."""
FEWEST_BYTES = 10.0
"""Of a second, in the most frugal format, of silence: a header that states more seconds than that states nothing."""
MAX_TOLERANCE_SEC = 2.0
"""... and so does a recording shorter by more than this."""


@dataclass(frozen=True)
class AudioInfo:
    """What the decoder found: `num_frames` at `sample_rate` Hz, counted, not read from the header."""

    num_frames: int
    sample_rate: int
    num_channels: int
    flaws: tuple[AudioError, ...] = ()
    """What is wrong with a recording that can be used nevertheless, as far as it goes."""

    @property
    def flaw(self) -> str | None:
        """The flaws in one line; None without any."""
        return "; ".join(map(str, self.flaws)) or None

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
        AudioError: As `stream`; or with reason "too long", "truncated" (much shorter than its header says), or
            "non-finite samples" (and nothing else). But if `USEFUL_SEC` and more decode before a file breaks or ends
            early, that is a flaw of the result.
    """
    on_block()
    notes = Notes()
    num_frames = 0
    broken = None
    limit = f"the limit is {timedelta(seconds=round(max_seconds))}; split it into shorter files"
    with _open(path) as source:
        rate, stated_sec = source.sample_rate, _plausible(source.stated_sec, path)
        if stated_sec is not None and stated_sec > max_seconds:
            raise AudioError(Reason.TOO_LONG, f"its header says {timedelta(seconds=round(stated_sec))}, {limit}")
        try:
            for block in silence_gaps(source.blocks(0, None), rate, notes):
                on_block()
                num_frames += len(block)
                if num_frames > max_seconds * rate:
                    break
        except AudioError as error:
            broken = error
        info = AudioInfo(num_frames, rate, source.num_channels)
        flaws = list(source.flaws)
    if info.duration_sec > max_seconds:
        raise AudioError(Reason.TOO_LONG, f"more decodes than is allowed: {limit}")
    if broken is None and stated_sec is not None:
        broken = find_cut(path, info.duration_sec)
    if broken is not None and info.duration_sec < USEFUL_SEC:
        raise broken
    if num_frames == 0:
        raise AudioError(Reason.NO_SAMPLES, "the file decodes to nothing")
    if notes.gap_flaw is not None and notes.lost_sec >= info.duration_sec:
        raise notes.gap_flaw
    return replace(info, flaws=tuple(flaw for flaw in (*flaws, notes.gap_flaw, broken) if flaw is not None))


def find_cut(path: Path, duration_sec: float) -> AudioError | None:
    """What is missing of a file of which so many seconds decode, by its header; None: nothing, or that tells nothing.

    Raises:
        AudioError: As `stream`.
    """
    with _open(path) as source:
        stated_sec = _plausible(source.stated_sec, path)
    if stated_sec is None or not is_shorter(duration_sec, stated_sec):
        return None
    return AudioError(Reason.TRUNCATED, f"{duration_sec:.2f} s decode, its header says {stated_sec:.2f} s")


def _plausible(stated_sec: float | None, path: Path) -> float | None:
    """The length a header states, if so much could stand in the file: a sentinel, a count never filled in, is none."""
    return stated_sec if stated_sec is None or path.stat().st_size >= FEWEST_BYTES * stated_sec else None


def stream(
    path: Path,
    *,
    sample_rate: int,
    offset_sec: float = 0.0,
    duration_sec: float | None = None,
    notes: Notes | None = None,
) -> Iterator[np.ndarray]:
    """Decode a file, or a part of it, as mono float32 blocks (T,) of at most about 16 s at `sample_rate` Hz.

    Memory is bounded by the block, whatever the header claims. What precedes an error is delivered before it is raised.
    A block may be empty: where a format must be decoded up to the offset, that tells that it goes on.

    Args:
        path: Any format libsndfile or FFmpeg reads; told by content, not by extension.
        sample_rate: Rate of the result, Hz. Resampled with soxr as a stream. Channels are averaged, unless they cancel;
            samples in floating point get a gain where they are out of full scale, or very faint.
        offset_sec: Where to start, seconds.
        duration_sec: How much to read, seconds, rounded to frames of the file; None reads to the end of what there is.
        notes: Filled with what is noticed on the way.

    Raises:
        AudioError: With reason "missing file", "empty file", "unreadable", "not finalised", "implausible sample rate",
            "implausible channels" or "no samples". Not "truncated": compare the length with what the manifest states.
            Numbers that are none are silence, and noted.
    """
    notes = Notes() if notes is None else notes
    num_samples = 0
    with _open(path, offset_sec, duration_sec) as source:
        start = round(offset_sec * source.sample_rate)
        count = None if duration_sec is None else round(duration_sec * source.sample_rate)
        blocks = silence_gaps(source.blocks(start, count), source.sample_rate, notes)
        if source.is_float:
            yield from _gain(path, source, start, count, notes)
        if notes.gain != 1.0:
            blocks = (np.clip(block * np.float32(notes.gain), -1.0, 1.0) for block in blocks)
        if source.sample_rate != sample_rate:
            blocks = _resample(blocks, source.sample_rate, sample_rate)
        for block in blocks:
            num_samples += len(block)
            yield block
        notes.flaws += [*source.flaws, *([notes.gap_flaw] if notes.gap_flaw else [])]
    if num_samples == 0:
        raise AudioError(Reason.NO_SAMPLES, f"nothing decodes after second {offset_sec:g}")


def _gain(path: Path, source: Source, start: int, count: int | None, notes: Notes) -> Iterator[np.ndarray]:
    """Note the gain of a source in floating point, which is read once more for it; an empty block tells of each."""
    finder = GainFinder(source.sample_rate)
    with _open(path) as again, suppress(AudioError):  # what breaks here breaks there
        for block in silence_gaps(again.blocks(start, count), source.sample_rate, Notes()):
            finder.add(block)
            yield block[:0]
    notes.gain = finder.gain


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
def _open(path: Path, offset_sec: float = 0.0, duration_sec: float | None = None) -> Iterator[Source]:
    """Open a file with the decoder that knows it, and refuse what no recorder writes. This part of it will be read."""
    try:
        if not path.is_file():
            raise AudioError(Reason.MISSING_FILE, "no such file")
        if path.stat().st_size == 0:
            raise AudioError(Reason.EMPTY_FILE, "0 bytes")
        file = path.open("rb", buffering=0)
    except OSError as error:
        reason = Reason.UNREADABLE if error.errno in NO_FILE else Reason.NOT_OPENED
        raise AudioError(reason, str(error.strerror)) from None
    with file, closing(_source(file, offset_sec, duration_sec)) as source:
        if not MIN_SAMPLE_RATE <= source.sample_rate <= MAX_SAMPLE_RATE:
            raise AudioError(Reason.SAMPLE_RATE, f"{source.sample_rate} Hz")
        if source.num_channels > MAX_CHANNELS:
            raise AudioError(Reason.CHANNELS, f"{source.num_channels}")
        yield source


def _source(file: BinaryIO, offset_sec: float, duration_sec: float | None) -> Source:
    """Open a recording: files of uncompressed samples with libsndfile, which is quicker, all others with FFmpeg.

    FFmpeg reads those to their real end. Where one refuses, the other is asked; the better informed refusal is told.
    """
    samples = find_samples(file)
    refused = None
    if samples is not None:
        try:
            plain = SoundFileSource(file, samples)
        except sf.LibsndfileError as error:
            refused = error
        else:
            if plain.is_plain or samples.is_as_stated:
                return plain
            plain.close()
    elif offset_sec > 0 and duration_sec is not None and (part := _flac_part(file, offset_sec + duration_sec)):
        return part
    if samples is None and has_chunks(file):
        # FFmpeg would ask for as much memory as the chunk claims that leads nowhere.
        return _by_libsndfile(file, None, AudioError(Reason.UNREADABLE, "no samples in it, or it is damaged"))
    from runyoro_ssl.audio.pyav import PyAVSource

    try:
        return PyAVSource(file, samples)
    except AudioError as error:
        if error.reason not in {Reason.UNREADABLE, Reason.NOT_FINALISED}:
            raise
        return _by_libsndfile(file, refused, error)


def _flac_part(file: BinaryIO, stop_sec: float) -> Source | None:
    """A FLAC in libsndfile, which finds the part that ends here to the sample, without decoding what precedes it.

    Not where several were joined, or seem to be: it would find the part in another of them.
    """
    if os.pread(file.fileno(), 4, 0) != FLAC or find_again(file, len(FLAC), FLAC) is not None:
        return None
    try:
        source = SoundFileSource(file)
    except sf.LibsndfileError:
        return None
    # Beyond what is stated there may be more: files that were joined. Where less is there, it does not find the last.
    if source.stated_sec is not None and stop_sec <= source.stated_sec and source.is_whole:
        return source
    source.close()
    return None


def _by_libsndfile(file: BinaryIO, refused: sf.LibsndfileError | None, instead: AudioError) -> Source:
    """Open what FFmpeg refuses; or raise that refusal, if libsndfile does not know better."""
    file.seek(0)
    try:
        if refused is None:
            return SoundFileSource(file)
    except sf.LibsndfileError as error:
        refused = error
    if refused is None or is_unknown_format(refused):
        raise instead
    raise AudioError(Reason.UNREADABLE, explain(refused)) from None


def _resample(blocks: Iterator[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Resample a stream of float32 blocks."""
    stream = soxr.ResampleStream(from_rate, to_rate, num_channels=1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block))
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
