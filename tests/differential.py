"""Recordings of every format in every state that recorders, streams and tools leave them in, against FFmpeg.

The long form prints a table: `python tests/differential.py`. Each file must have the seconds that a plain decode by
FFmpeg gives, within a frame of its codec, or a flaw that says why not.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import av
import soundfile as sf

from runyoro_ssl.audio.decode import AudioInfo, probe
from runyoro_ssl.errors import AudioError
from support.recordings import NO_NOISE, Format, encode, encode_stream, hum

SECONDS = 3.0
FRAME_SEC = 0.13
"""The longest frame there is here: 1024 samples of AAC at 8 kHz."""


@dataclass(frozen=True)
class Sndfile:
    """A format that libsndfile writes."""

    format: str
    subtype: str
    rate: int = 16_000
    channels: int = 1


BY_FFMPEG = {
    "mp3-cbr": Format("libmp3lame", "mp3", 44_100, bit_rate=64_000),
    "mp3-vbr": Format("libmp3lame", "mp3", 44_100, 2, quality=4),
    "mp3-vbr-16k": Format("libmp3lame", "mp3", 16_000, quality=4),
    "mp2": Format("mp2", "mp2", 48_000, 2),
    "aac": Format("aac", "adts", 44_100, options=NO_NOISE),
    "m4a": Format("aac", "ipod", 44_100, options=NO_NOISE),
    "m4a-alac": Format("alac", "ipod", 44_100, 2),
    "3gp-amr": Format("libopencore_amrnb", "3gp", 8_000, bit_rate=12_200),
    "amr": Format("libopencore_amrnb", "amr", 8_000, bit_rate=12_200),
    "opus": Format("libopus", "ogg", 48_000),
    "opus-16k": Format("libopus", "ogg", 16_000),
    "ogg-flac": Format("flac", "ogg", 16_000),
    "flac": Format("flac", "flac", 16_000),
    "webm": Format("libopus", "webm", 48_000),
    "mka-flac": Format("flac", "matroska", 16_000),
    "wma": Format("wmav2", "asf", 44_100, 2, bit_rate=96_000),
    "ac3": Format("ac3", "ac3", 48_000, 6),
    "eac3": Format("eac3", "eac3", 48_000, 2),
    "ts-mp2": Format("mp2", "mpegts", 48_000, 2),
    "avi-mp3": Format("libmp3lame", "avi", 44_100, 2, with_video=True),
    "mp4-film": Format("aac", "mp4", 44_100, 2, options=NO_NOISE, with_video=True),
    "mov-pcm": Format("pcm_s16le", "mov", 48_000, 2),
    "wavpack": Format("wavpack", "wv", 16_000),
    "tta": Format("tta", "tta", 16_000),
    "wav-adpcm": Format("adpcm_ima_wav", "wav", 16_000),
    "wav-ffmpeg": Format("pcm_s16le", "wav", 16_000),
    "caf-alac": Format("alac", "caf", 44_100, 2),
    "flv": Format("libmp3lame", "flv", 44_100, 2),
}
BY_SNDFILE = {
    "wav": Sndfile("WAV", "PCM_16"),
    "wav-24": Sndfile("WAVEX", "PCM_24", 48_000, 2),
    "wav-float": Sndfile("WAV", "FLOAT", 44_100),
    "wav-u8": Sndfile("WAV", "PCM_U8", 8_000),
    "wav-ulaw": Sndfile("WAV", "ULAW", 8_000),
    "wav-gsm": Sndfile("WAV", "GSM610", 8_000),
    "wav-ms-adpcm": Sndfile("WAV", "MS_ADPCM"),
    "rf64": Sndfile("RF64", "PCM_16"),
    "w64": Sndfile("W64", "PCM_16"),
    "aiff": Sndfile("AIFF", "PCM_16", 22_050),
    "aifc-float": Sndfile("AIFF", "FLOAT", 22_050),
    "caf": Sndfile("CAF", "PCM_24", 44_100),
    "au": Sndfile("AU", "PCM_16"),
    "sph": Sndfile("NIST", "PCM_16"),
    "vorbis": Sndfile("OGG", "VORBIS", 44_100),
    "flac-sndfile": Sndfile("FLAC", "PCM_24", 48_000, 2),
    "mp3-sndfile": Sndfile("MP3", "MPEG_LAYER_III", 44_100),
}
FORMATS: dict[str, Format | Sndfile] = {**BY_FFMPEG, **BY_SNDFILE}


def write_plain(name: str, path: Path, seconds: float = SECONDS) -> None:
    """Write a whole, healthy recording of a format."""
    kind = FORMATS[name]
    wave = hum(seconds, kind.rate, kind.channels)
    if isinstance(kind, Format):
        encode(path, wave, kind)
        return
    with sf.SoundFile(path, "w", kind.rate, kind.channels, kind.subtype, format=kind.format) as file:
        for at in range(0, len(wave), kind.rate):  # the Vorbis encoder crashes over long blocks
            file.write(wave[at : at + kind.rate])


def write_streamed(name: str, path: Path) -> bool:
    """Write a recording into a pipe: nothing in its header could be filled in afterwards. False: it cannot be."""
    kind = FORMATS[name]
    if not isinstance(kind, Format) or kind.with_video:
        return False
    streamed = replace(kind, muxing={"movflags": "frag_keyframe+empty_moov"} if kind.container in MP4 else {})
    try:
        path.write_bytes(encode_stream(hum(SECONDS, kind.rate, kind.channels), streamed))
    except (av.FFmpegError, OSError):
        return False
    return True


MP4 = ("ipod", "3gp", "mp4", "mov")
ID3V2 = b"ID3\x03\x00\x00\x00\x00\x10\x00" + b"TXXX" + struct.pack(">IH", 2038, 0) + b"\0" * 2038
ID3V1 = b"TAG" + b"Sermon".ljust(125, b"\0")
APE = (
    b"APETAGEX"
    + struct.pack("<IIII8x", 2000, 60, 1, 0xA0000000)
    + struct.pack("<II", 17, 0)
    + b"Title\0"
    + b"A sermon of June."
    + struct.pack("<II", 4, 0)
    + b"Year\0"
    + b"2019"
)


def without_counts(content: bytes) -> bytes | None:
    """The Xing or Info frame of an MP3, which holds its length, is gone."""
    at = max(content.find(b"Xing"), content.find(b"Info"))
    if not 0 <= at < 5000:
        return None
    start = content.rfind(b"\xff", 0, at)
    following = content.find(content[start : start + 2], start + 4)
    return content[:start] + content[following:]


def not_finalised(content: bytes) -> bytes | None:
    """The recorder lost power: its sizes are as they were written first, zero; an MP4 has no index."""
    if content[8:12] == b"WAVE":
        return _zero(content, (4, 4), (content.find(b"data") + 4, 4))
    if content[:4] == b"FORM":
        return _zero(content, (4, 4), (content.find(b"SSND") + 4, 4))
    if content[:4] == b".snd":
        return _zero(content, (8, 4))
    if content[:4] == b"fLaC" and len(content) > 26:
        return content[:21] + bytes([content[21] & 0xF0]) + b"\0" * 4 + content[26:]
    if content[4:8] == b"ftyp":
        at = content.find(b"moov") - 4
        return content[:at] if at > 0 else None
    return None


def size_wrapped(content: bytes) -> bytes | None:
    """A size of 32 bits that has wrapped: a second is stated."""
    if content[:4] != b"FORM" and content[8:12] != b"WAVE":
        return None
    riff = content[:4] != b"FORM"
    at = content.find(b"data" if riff else b"SSND") + 4
    size = struct.pack("<I" if riff else ">I", 32_000)
    return content[:at] + size + content[at + 4 :]


def size_unknown(content: bytes) -> bytes | None:
    """What a program writes into a pipe: the largest size there is."""
    if content[:4] not in {b"RIFF", b".snd"}:
        return None
    at = content.find(b"data") + 4 if content[8:12] == b"WAVE" else 8
    return content[:at] + b"\xff" * 4 + content[at + 4 :] if content[8:12] != b"AVI " else None


def _zero(content: bytes, *fields: tuple[int, int]) -> bytes:
    """Without what stands in fields, of which one behind a tag that is missing is none."""
    made = bytearray(content)
    for at, size in fields:
        if at >= size:
            made[at : at + size] = bytes(size)
    return bytes(made)


VARIANTS: dict[str, Callable[[bytes], bytes | None]] = {
    "plain": lambda content: content,
    "no counts": without_counts,
    "tag in front": lambda content: ID3V2 + content,
    "tags behind": lambda content: content + APE + ID3V1,
    "joined": lambda content: content * 3,
    "cut": lambda content: content[: len(content) * 6 // 10],
    "begins midway": lambda content: content[len(content) * 3 // 10 :],
    "not finalised": not_finalised,
    "size wrapped": size_wrapped,
    "size unknown": size_unknown,
    "zeros behind": lambda content: content + bytes(50_000),
}


def write_all(folder: Path, names: list[str]) -> Iterator[tuple[str, str, Path]]:
    """Write every variant of the formats named; gives (format, variant, file)."""
    for name in names:
        plain = folder / f"{name}.plain"
        write_plain(name, plain)
        content = plain.read_bytes()
        for variant, change in VARIANTS.items():
            changed = change(content)
            if changed is not None:
                path = folder / f"{name}.{variant.replace(' ', '-')}"
                path.write_bytes(changed)
                yield name, variant, path
        if write_streamed(name, path := folder / f"{name}.streamed"):
            yield name, "streamed", path


def seconds_by_ffmpeg(path: Path, options: Mapping[str, str] = MappingProxyType({})) -> float | None:
    """What a plain decode gives, packets that fail left out, as players do. None: it cannot be opened."""
    seconds = 0.0
    try:
        with av.open(str(path), "r", metadata_errors="replace", container_options=dict(options)) as file:
            stream = file.streams.audio[0]
            for packet in file.demux(stream):
                try:
                    seconds += sum(frame.samples / frame.sample_rate for frame in packet.decode())
                except av.FFmpegError:
                    continue
    except (av.FFmpegError, IndexError, OSError, OverflowError):
        return None if seconds == 0 else seconds
    return seconds


@dataclass(frozen=True)
class Comparison:
    """What FFmpeg and this package say of a file: seconds, None where it cannot be read; and flaws."""

    format: str
    variant: str
    by_ffmpeg: float | None
    ours: AudioInfo | AudioError

    @property
    def seconds(self) -> float:
        """By this package."""
        return self.ours.duration_sec if isinstance(self.ours, AudioInfo) else 0.0

    @property
    def flaw(self) -> str:
        """All that it says is wrong; nothing for an intact file."""
        if isinstance(self.ours, AudioError):
            return f"REJECTED {self.ours}"
        return "; ".join(map(str, self.ours.flaws))

    @property
    def agrees(self) -> bool:
        """Whether nothing differs in silence. What FFmpeg does not open cannot be compared."""
        return bool(self.flaw) or not self.by_ffmpeg or abs(self.seconds - self.by_ffmpeg) <= FRAME_SEC


def compare(folder: Path, names: list[str]) -> Iterator[Comparison]:
    """Compare every variant of the formats named."""
    for name, variant, path in write_all(folder, names):
        try:
            ours: AudioInfo | AudioError = probe(path)
        except AudioError as error:
            ours = error
        yield Comparison(name, variant, seconds_by_ffmpeg(path), ours)


def main() -> int:
    """Print the table; the exit status tells whether all agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", help=f"of {', '.join(FORMATS)}")
    names = parser.parse_args().formats or list(FORMATS)
    num_wrong = 0
    av.logging.set_level(None)
    with tempfile.TemporaryDirectory() as folder:
        for one in compare(Path(folder), names):
            num_wrong += not one.agrees
            mark = " " if one.agrees else "X"
            seconds = f"{one.by_ffmpeg or 0:7.3f} {one.seconds:7.3f}"
            sys.stdout.write(f"{mark} {one.format:13} {one.variant:14} {seconds}  {one.flaw}\n")
    return int(num_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
