"""Compressed recordings, through PyAV and the FFmpeg it bundles: MP3, FLAC, Ogg, m4a, 3gp, amr, webm, wma, video.

Measured against libsndfile, FFmpeg decodes each of them as fast or faster, and to its real end: recordings that were
joined, and lengths that no header states, or that a header states wrongly.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from runyoro_ssl.audio.channels import Mixer
from runyoro_ssl.audio.decoder import block_frames
from runyoro_ssl.audio.frames import at_one_rate, cut, gather, up_to
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.audio.rest import Nameless, describe_rest, find_again, find_tag, is_tail, next_link, start_of_content
from runyoro_ssl.audio.samples import Samples
from runyoro_ssl.audio.stated import asf_stated_sec, mp3_stated_sec
from runyoro_ssl.errors import AudioError

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dss,eac3,flac,flv,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,ogg,"
    "oma,qcp,rm,tak,tta,voc,wav,w64,wv"
)
"""Containers that hold a recording; none that names other files or addresses (playlists, concat, dash), no pictures."""
DECODERS = (
    "aac,aac_latm,ac3,alac,als,amrnb,amrwb,ape,atrac3,atrac3p,dsd_lsbf,dsd_lsbf_planar,dsd_msbf,dsd_msbf_planar,dss_sp,"
    "eac3,evrc,flac,libopencore_amrnb,libopencore_amrwb,libopus,libvorbis,mp1,mp1float,mp2,mp2float,mp3,mp3float,mpc7,"
    "mpc8,opus,qcelp,speex,libspeex,tak,tta,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice,"
    "cook,gsm,gsm_ms,ra_144,ra_288,sipr,"
    "adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_swf,adpcm_yamaha,g722,g726,g726le,g723_1,nellymoser,"
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,"
    "pcm_f32be,pcm_f64le,pcm_f64be"
)
"""Decoders of sound. Pictures and film are never decoded, not even to look at the header."""
OPEN_OPTIONS = {"format_whitelist": DEMUXERS, "codec_whitelist": DECODERS, "protocol_whitelist": "none"}
STATING = frozenset({"mov", "ogg", "flac", "wav", "w64", "aiff", "caf"})
"""Containers whose stream duration is written in them; for others FFmpeg guesses it from size and bit rate."""
NOT_JOINED = frozenset({"mov", "matroska", "asf", "flv", "wv", "tta", "ape", "voc"})
"""Containers of which FFmpeg reads the first, or not all, where several were joined."""
FEW_BAD, MANY_BAD = 0.02, 0.25
"""Shares of packets that do not decode: up to the first, nobody would miss them; up to the second, the rest is used."""
SEEK_EARLY_SEC = 1
"""Decoders need a few frames to settle after a jump."""
BROKEN = (av.FFmpegError, OSError, OverflowError, IndexError)
"""What PyAV raises over a damaged file: OSError, OverflowError when FFmpeg is sent to a place before its start or far
beyond its end; IndexError when a stream appears midway (MPEG-TS)."""


class PyAVSource:
    """A recording open in PyAV: the first audio stream of a container, as its first decoded frame says.

    Priming samples and edit lists are FFmpeg's business: the encoder delay that the container declares (AAC in MP4,
    Opus in WebM) is skipped, as players do, and an edit list is obeyed, so that second 0 is what a player plays first.
    AAC outside a container declares none and keeps its first few hundredths of a second of near silence.

    A packet that does not decode is skipped, as players do; many make the file "unreadable", raised after what decodes
    has been delivered.

    Raises:
        AudioError: With reason "unreadable", "not finalised", "implausible channels" or "no samples".
    """

    def __init__(self, file: BinaryIO, samples: Samples | None = None) -> None:
        self._file = file
        self._start = start_of_content(file)
        self._tag_end = 0
        self._link = 0
        self.flaws: list[AudioError] = []
        self._was_looked_behind = samples is not None
        if samples is not None and samples.flaw is not None:
            self.flaws.append(_flaw_here(samples.flaw))
        self._open()
        self.sample_rate = self._first.sample_rate
        self.num_channels = self._first.layout.nb_channels
        self.is_float = self._stream.codec_context.name.startswith("pcm_f")
        self.stated_sec = self._stated_sec()
        self._mixer = Mixer(self.sample_rate)

    def blocks(self, start: int, count: int | None) -> Iterator[np.ndarray]:
        """Decode mono blocks, as `Source.blocks` says."""
        try:
            position, frames = self._frames_before(start)
            skip = start - position
            frames = at_one_rate(frames, self.sample_rate)
            if count is not None:
                frames = up_to(frames, skip + count)
            for block in cut(gather(frames, block_frames(self.sample_rate, self.num_channels)), skip, count):
                yield self._mixer.mix(block)
        except BROKEN as error:
            raise AudioError(Reason.UNREADABLE, _explain(error)) from None
        if count is None:
            self._look_behind()
            self._look_beside()
        self.flaws += self._mixer.flaws

    def close(self) -> None:
        """Free the decoder, as `Source.close` says."""
        self._frames.close()
        self._container.close()

    def _open(self) -> None:
        # A nameless view: FFmpeg, too, would believe the extension. Without the tags in front: where the cover in them
        # is large, FFmpeg takes what follows for MP3.
        nameless = Nameless(self._file.fileno(), self._start)
        self._first_packet: av.Packet[AudioStream] | None = None
        self._last_packet: av.Packet[AudioStream] | None = None
        try:
            self._container: InputContainer = av.open(
                nameless, mode="r", container_options=OPEN_OPTIONS, metadata_errors="replace"
            )
            self._stream = self._audio_stream()
            self._frames = self._decoded()
            first = next(self._frames, None)
        except BROKEN as error:
            if self._has_no_index():
                raise AudioError(Reason.NOT_FINALISED, "an MP4 without its index, which no player opens") from None
            raise AudioError(Reason.UNREADABLE, _explain(error)) from None
        if first is None:
            raise AudioError(Reason.NO_SAMPLES, "the file decodes to nothing")
        self._first: AudioFrame = first

    @property
    def _begin(self) -> int:
        """Where the first packet stands in the file."""
        return self._start + ((self._first_packet.pos or 0) if self._first_packet else 0)

    @property
    def _end(self) -> int:
        """Where the last packet that was read ends in the file; 0 if that is not known."""
        packet = self._last_packet
        return self._start + packet.pos + packet.size if packet is not None and packet.pos is not None else 0

    @property
    def _kind(self) -> str:
        return self._container.format.name.split(",")[0]

    def _has_no_index(self) -> bool:
        is_mp4 = os.pread(self._file.fileno(), 4, self._start + 4) == b"ftyp"
        return is_mp4 and find_again(self._file, 0, b"moov") is None

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
        duration, base = self._stream.duration, self._stream.time_base
        if self._kind == "mp3":
            return mp3_stated_sec(self._file, self._begin, self.sample_rate)
        if self._kind == "asf":
            return asf_stated_sec(self._file, self._start)
        if self._kind in STATING and duration is not None and base is not None:
            return float(duration * base)
        # Matroska states one length for all its streams; a duration of the stream is then FFmpeg's guess.
        alone = len(self._container.streams) == 1
        if self._kind == "matroska" and alone and duration is None and self._container.duration is not None:
            return self._container.duration / av.time_base
        return None

    def _decoded(self) -> Generator[AudioFrame, None, None]:
        """Frames from here to the end of the file."""
        num_packets = num_bad = good_end = 0
        for packet in self._packets():
            num_packets += 1
            try:
                frames = packet.decode()
            except BROKEN:
                num_bad += not self._is_in_tag(packet, good_end)
                continue
            good_end = self._end
            yield from frames
        if num_bad > max(1, FEW_BAD * num_packets):
            detail = f"{num_bad} of {num_packets} packets do not decode"
            if num_bad > MANY_BAD * num_packets:
                raise AudioError(Reason.UNREADABLE, detail)
            self.flaws.append(AudioError(Reason.LOST_PACKETS, detail))
        if self._link:  # of another codec, or of other channels, of which FFmpeg refuses a change
            self._start, self._link = self._link, 0
            self._container.close()
            self._open()
            yield self._first
            yield from self._frames

    def _is_in_tag(self, packet: av.Packet[AudioStream], good_end: int) -> bool:
        """Whether a packet that does not decode is of a tag, in which FFmpeg found what looks like frames: no loss."""
        if packet.pos is None:
            return False
        at = self._start + packet.pos
        if at >= self._tag_end and (tag := find_tag(self._file, good_end)) is not None and tag[0] <= at + packet.size:
            self._tag_end = tag[1]
        return at < self._tag_end

    def _packets(self) -> Iterator[av.Packet[AudioStream]]:
        """The packets of the stream; tags and padding that FFmpeg takes for damage are the end."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except BROKEN:
                if self._end and is_tail(self._file, self._end):
                    return
                if self._kind == "ogg" and (link := next_link(self._file, self._end)) is not None:
                    self._link = link
                    return
                if not self._end or (tag := find_tag(self._file, self._end)) is None:
                    raise
                self.flaws.append(AudioError(Reason.NOT_READ, f"{describe_rest(self._file, tag[1])}, behind tags"))
                self._was_looked_behind = True
                return
            if packet.size:
                self._first_packet, self._last_packet = self._first_packet or packet, packet
            yield packet

    def _look_behind(self) -> None:
        """Notice that another recording stands behind the one that was read."""
        if self._kind not in NOT_JOINED or self._was_looked_behind or not self._end:
            return
        head = os.pread(self._file.fileno(), 8, self._start)
        again = find_again(self._file, self._end, b"ftyp" if head[4:] == b"ftyp" else head[:4])
        if again is not None:
            size = os.fstat(self._file.fileno()).st_size
            detail = f"another recording begins {size - again:,} bytes before the end: files that were joined"
            self.flaws.append(AudioError(Reason.NOT_READ, detail))

    def _look_beside(self) -> None:
        """Notice that there are other tracks of sound than the one that was read."""
        num_tracks = len(self._container.streams.audio)
        if num_tracks > 1:
            self.flaws.append(AudioError(Reason.NOT_READ, f"{num_tracks} audio tracks, of which the first was read"))

    def _frames_before(self, start: int) -> tuple[int, Iterable[AudioFrame]]:
        """Decoded frames from `start` or earlier, and the position of the first of them.

        Jumps only in MP4 and its kin, whose timestamps count samples and never start anew, as they do where Ogg or FLAC
        was joined; elsewhere all that precedes `start` is decoded and dropped.
        """
        early = start - SEEK_EARLY_SEC * self.sample_rate
        base, origin = self._stream.time_base, self._first.pts
        counts_samples = self._kind == "mov" and base is not None and base * self.sample_rate == 1
        if early <= 0 or origin is None or not counts_samples:
            return 0, chain([self._first], self._frames)
        self._container.seek(origin + early, stream=self._stream)
        frames = self._decoded()
        landed = next(frames, None)
        if landed is not None and landed.pts is not None and 0 <= landed.pts - origin <= start:
            return landed.pts - origin, chain([landed], frames)
        self._container.close()
        self._open()
        return 0, chain([self._first], self._frames)


def _flaw_here(flaw: AudioError) -> AudioError:
    """What is wrong with the statement of a file of chunks, of which FFmpeg reads no more than is stated."""
    return AudioError(Reason.NOT_READ, flaw.detail) if flaw.reason == Reason.LONGER_THAN_STATED else flaw


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
