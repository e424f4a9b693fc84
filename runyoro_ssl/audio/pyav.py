"""Recordings that libsndfile does not read, through PyAV and the FFmpeg it bundles: m4a, 3gp, amr, webm, wma, video."""

from __future__ import annotations

import errno
import io
from collections.abc import Generator, Iterator
from itertools import chain
from typing import BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from runyoro_ssl.audio.decoder import MAX_BLOCK_VALUES, block_frames
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError

DEMUXERS = "aac,ac3,aiff,amr,asf,avi,caf,eac3,flac,flv,loas,matroska,mov,mp3,mpeg,mpegts,ogg,rm,wav,w64,wv"
"""Containers that hold a recording; none that names other files or addresses (playlists, concat, dash), no pictures."""
DECODERS = (
    "aac,aac_latm,ac3,alac,als,amrnb,amrwb,eac3,flac,libopencore_amrnb,libopencore_amrwb,libopus,libvorbis,mp1,"
    "mp1float,mp2,mp2float,mp3,mp3float,opus,speex,libspeex,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice,"
    "cook,gsm,gsm_ms,ra_144,ra_288,sipr,"
    "adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_swf,adpcm_yamaha,g722,g726,g726le,g723_1,nellymoser,"
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,"
    "pcm_f32be,pcm_f64le,pcm_f64be"
)
"""Decoders of sound. Pictures and film are never decoded, not even to look at the header."""
OPEN_OPTIONS = {"format_whitelist": DEMUXERS, "codec_whitelist": DECODERS, "protocol_whitelist": "none"}
STATING = frozenset({"mov", "asf", "ogg", "flac", "wav", "w64", "aiff", "caf"})
"""Containers whose stream duration is written in them; for others FFmpeg guesses it from the bit rate."""
MAX_BAD_SHARE = 0.02
"""Packets that may fail to decode: as much as a clip may be shorter than stated."""
SEEK_EARLY_SEC = 1
"""Decoders need a few frames to settle after a jump."""
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}
"""By sample format, without the p of planar ones; 24 bits come as the upper part of s32."""
MAX_PLANES = 7
"""PyAV (seen in 18.1) takes what lies behind the eighth plane for a ninth and reads it: a crash."""
BROKEN = (av.FFmpegError, OSError, OverflowError, IndexError)
"""What PyAV raises over a damaged file: OSError, OverflowError when FFmpeg is sent to a place before its start or far
beyond its end; IndexError when a stream appears midway (MPEG-TS)."""


class PyAVSource:
    """A recording open in PyAV: the first audio stream of a container, as its first decoded frame says.

    Priming samples and edit lists are FFmpeg's business: the encoder delay that the container declares (AAC in MP4,
    Opus in WebM) is skipped, as players do, and an edit list is obeyed, so that second 0 is what a player plays first.
    AAC outside a container declares none and keeps its first few hundredths of a second of near silence.

    A packet that does not decode is skipped, as players do; more than one, and more than 2 % of them, make the file
    "unreadable", raised after what decodes has been delivered.

    Raises:
        AudioError: With reason "unreadable" or "no samples".
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._open()
        self.sample_rate = self._first.sample_rate
        self.num_channels = self._first.layout.nb_channels
        self.stated_sec = self._stated_sec()

    def blocks(self, start: int, count: int | None) -> Iterator[np.ndarray]:
        """Decode mono blocks, as `Source.blocks` says."""
        try:
            position, frames = self._frames_before(start)
            parts = _cut((self._mono(frame) for frame in frames), start - position, count)
            yield from _gather(parts, block_frames(self.sample_rate, self.num_channels))
        except BROKEN as error:
            raise AudioError(Reason.UNREADABLE, _explain(error)) from None

    def close(self) -> None:
        """Free the decoder, as `Source.close` says."""
        self._frames.close()
        self._container.close()

    def _open(self) -> None:
        self._file.seek(0)
        # A nameless view: FFmpeg, too, would believe the extension.
        nameless = io.FileIO(self._file.fileno(), closefd=False)
        try:
            self._container: InputContainer = av.open(
                nameless, mode="r", container_options=OPEN_OPTIONS, metadata_errors="replace"
            )
            self._stream = self._audio_stream()
            self._frames = self._decoded()
            first = next(self._frames, None)
        except BROKEN as error:
            raise AudioError(Reason.UNREADABLE, _explain(error)) from None
        if first is None:
            raise AudioError(Reason.NO_SAMPLES, "the file decodes to nothing")
        self._first: AudioFrame = first

    def _audio_stream(self) -> AudioStream:
        if not self._container.streams.audio:
            raise AudioError(Reason.UNREADABLE, "no audio in it")
        stream = self._container.streams.audio[0]
        codec: str | None = getattr(stream.codec_context, "name", None)
        if codec not in DECODERS.split(","):
            raise AudioError(Reason.UNREADABLE, f"its audio codec ({codec or 'unknown'}) is not one we decode")
        stream.codec_context.thread_count = 1
        return stream

    def _stated_sec(self) -> float | None:
        """Seconds by the header."""
        container = self._container.format.name.split(",")[0]
        duration, base = self._stream.duration, self._stream.time_base
        if container in STATING and duration is not None and base is not None:
            return float(duration * base)
        # Matroska states one length for all its streams; a duration of the stream is then FFmpeg's guess.
        alone = len(self._container.streams) == 1
        if container == "matroska" and alone and duration is None and self._container.duration is not None:
            return self._container.duration / av.time_base
        return None

    def _decoded(self) -> Generator[AudioFrame, None, None]:
        """Frames from here to the end of the file."""
        num_packets = num_bad = 0
        for packet in self._container.demux(self._stream):
            num_packets += 1
            try:
                frames = packet.decode()
            except BROKEN:
                num_bad += 1
                continue
            yield from frames
        if num_bad > max(1, MAX_BAD_SHARE * num_packets):
            raise AudioError(Reason.UNREADABLE, f"{num_bad} of {num_packets} packets do not decode")

    def _frames_before(self, start: int) -> tuple[int, Iterator[AudioFrame]]:
        """Decoded frames from `start` or earlier, and the position of the first of them.

        Jumps only where timestamps count samples, as in MP4 and its kin; elsewhere (Matroska's are whole milliseconds)
        all that precedes `start` is decoded and dropped.
        """
        early = start - SEEK_EARLY_SEC * self.sample_rate
        base, origin = self._stream.time_base, self._first.pts
        if early <= 0 or origin is None or base is None or base * self.sample_rate != 1:
            return 0, chain([self._first], self._frames)
        self._container.seek(origin + early, stream=self._stream)
        frames = self._decoded()
        landed = next(frames, None)
        if landed is not None and landed.pts is not None and 0 <= landed.pts - origin <= start:
            return landed.pts - origin, chain([landed], frames)
        self._container.close()
        self._open()
        return 0, chain([self._first], self._frames)

    def _mono(self, frame: AudioFrame) -> np.ndarray:
        """float32 (T,): the mean of a frame's channels."""
        num_channels, name = frame.layout.nb_channels, frame.format.name.removesuffix("p")
        if frame.sample_rate != self.sample_rate:
            raise AudioError(Reason.UNREADABLE, f"from {self.sample_rate} to {frame.sample_rate} Hz midway")
        if frame.format.is_planar and num_channels > MAX_PLANES:
            raise AudioError(Reason.CHANNELS, f"{num_channels}, at most {MAX_PLANES} are read from this format")
        if name not in FULL_SCALE:
            raise AudioError(Reason.UNREADABLE, f"samples of the kind {name}")
        values: np.ndarray = frame.to_ndarray()
        if not frame.format.is_planar:
            values = values.reshape(-1, num_channels).T
        if num_channels == 1 and values.dtype == np.float32:
            return values.reshape(-1)
        # Frames are short: one pass, in double because 32-bit integers do not fit a float.
        wave: np.ndarray = np.add.reduce(values, axis=0, dtype=np.float64)
        wave *= 1 / (num_channels * FULL_SCALE[name])
        if name == "u8":
            wave -= 1
        return wave.astype(np.float32)


def _cut(parts: Iterator[np.ndarray], skip: int, count: int | None) -> Iterator[np.ndarray]:
    """Without the first `skip` frames, at most `count`. An empty part now and then tells that skipping goes on."""
    quiet = 0
    for part in parts:
        wanted = part[skip:]
        skip = max(0, skip - len(part))
        quiet += len(part) - len(wanted)
        if quiet > MAX_BLOCK_VALUES:
            quiet = 0
            yield part[:0]
        if count is not None:
            wanted = wanted[:count]
            count -= len(wanted)
        if len(wanted):
            yield wanted
        if count == 0:
            return


def _gather(parts: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Parts of any length as blocks of `size` frames; what came before an error is given before it is raised."""
    waiting: list[np.ndarray] = []
    num_waiting = 0
    try:
        for part in parts:
            if len(part) == 0:
                yield part
                continue
            waiting.append(part)
            num_waiting += len(part)
            if num_waiting >= size:
                joined = np.concatenate(waiting)
                whole = len(joined) // size * size
                yield from (joined[at : at + size] for at in range(0, whole, size))
                waiting, num_waiting = [joined[whole:]], len(joined) - whole
    except (AudioError, *BROKEN):
        yield from _rest(waiting)
        raise
    yield from _rest(waiting)


def _rest(waiting: list[np.ndarray]) -> list[np.ndarray]:
    joined = np.concatenate(waiting) if waiting else np.empty(0, np.float32)
    return [joined] if len(joined) else []


def _explain(error: Exception) -> str:
    """The error in our words where FFmpeg's, which are the operating system's, mislead."""
    number = getattr(error, "errno", None)
    if isinstance(error, av.FFmpegError) and number == errno.EINVAL:
        return "not a recording: playlists, pictures and text are not opened"
    if isinstance(error, av.error.PatchWelcomeError):
        return "FFmpeg does not read this variant of its format; convert it to WAV or FLAC"
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError) and number != errno.EINVAL:
        return str(error.strerror)
    return "no audio found in it, or it is damaged"
