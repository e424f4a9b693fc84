"""Small recordings in every format we read, encoded on the spot; nothing here is downloaded or kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import soundfile as sf
from av.audio.stream import AudioStream

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
PACKET_FRAMES = 1024


@dataclass(frozen=True)
class Format:
    """How to write a recording with PyAV: `options` are the encoder's, `muxing` the container's."""

    codec: str
    container: str
    rate: int
    channels: int = 1
    bit_rate: int | None = None
    quality: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    muxing: dict[str, str] = field(default_factory=dict)
    with_video: bool = False
    start_sec: float = 0.0


# Without aac_pns a decoder fills bands with random noise, different at every start.
NO_NOISE = {"aac_pns": "0"}
AV_FORMATS = {
    "mono.m4a": Format("aac", "ipod", 44_100, options=NO_NOISE),
    "stereo.m4a": Format("aac", "ipod", 48_000, 2, options=NO_NOISE),
    "lossless.m4a": Format("alac", "ipod", 44_100, 2),
    "adts.aac": Format("aac", "adts", 44_100, options=NO_NOISE),
    "phone.3gp": Format("libopencore_amrnb", "3gp", 8_000, bit_rate=12_200),
    "phone.amr": Format("libopencore_amrnb", "amr", 8_000, bit_rate=12_200),
    "browser.webm": Format("libopus", "webm", 48_000),
    "opus.mka": Format("libopus", "matroska", 48_000, 2),
    "flac.mka": Format("flac", "matroska", 16_000),
    "desk.wma": Format("wmav2", "asf", 44_100, 2, bit_rate=96_000),
    "surround.ac3": Format("ac3", "ac3", 48_000, 6),
    "film.mp4": Format("aac", "mp4", 44_100, 2, options=NO_NOISE, with_video=True),
    "film.mkv": Format("libopus", "matroska", 48_000, 2, with_video=True),
    "film.avi": Format("libmp3lame", "avi", 44_100, 2, with_video=True),
    "pcm.mov": Format("pcm_s16le", "mov", 48_000, 2),
    "radio.ts": Format("mp2", "mpegts", 48_000, 2),
}
SNDFILE_FORMATS: dict[str, dict[str, Any]] = {
    "pcm.wav": {"samplerate": 16_000, "subtype": "PCM_16"},
    "float.wav": {"samplerate": 44_100, "subtype": "FLOAT"},
    "gsm.wav": {"samplerate": 8_000, "subtype": "GSM610"},
    "pcm.flac": {"samplerate": 48_000, "subtype": "PCM_16"},
    "pcm.aiff": {"samplerate": 22_050, "subtype": "PCM_24"},
    "pcm.caf": {"samplerate": 16_000, "subtype": "PCM_16"},
    "music.mp3": {"samplerate": 44_100},
    "vorbis.ogg": {"samplerate": 44_100},
    "voice.opus": {"samplerate": 48_000, "format": "OGG", "subtype": "OPUS"},
}


def hum(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """A voiced sound: harmonics of 150 Hz that swell and fade, with some noise; float32 (T, channels)."""
    time = np.arange(round(seconds * rate)) / rate
    harmonics = sum(np.sin(2 * np.pi * 150 * k * time + k) / k for k in range(1, 15))
    wave = 0.1 * (1 + np.sin(2 * np.pi * 2.3 * time)) * harmonics
    wave += np.random.default_rng(0).normal(0, 0.005, len(time))
    return np.stack([wave * (1 - 0.1 * channel) for channel in range(channels)], axis=1).astype(np.float32)


def write_sndfile(path: Path, seconds: float) -> np.ndarray:
    """Write `hum` as the format of that name in SNDFILE_FORMATS; returns it."""
    kind = SNDFILE_FORMATS[path.name]
    wave = hum(seconds, kind["samplerate"])
    sf.write(path, wave, **kind)
    return wave


def write_av(path: Path, seconds: float) -> np.ndarray:
    """Write `hum` as the format of that name in AV_FORMATS; returns it."""
    kind = AV_FORMATS[path.name]
    wave = hum(seconds, kind.rate, kind.channels)
    encode(path, wave, kind)
    return wave


def encode(path: Path, wave: np.ndarray, kind: Format, **metadata: str) -> None:
    """Write float32 (T, channels) as any format PyAV encodes; metadata is written as Latin-1."""
    _encode(str(path), wave, kind, metadata)


def encode_stream(wave: np.ndarray, kind: Format) -> bytes:
    """What `encode` writes into a pipe, where nothing can be written afterwards."""
    pipe = _Pipe()
    _encode(pipe, wave, kind, {})
    return b"".join(pipe.written)


class _Pipe:
    """All that FFmpeg needs of a file it only appends to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, content: bytes) -> int:
        self.written.append(bytes(content))
        return len(content)


def _encode(place: Any, wave: np.ndarray, kind: Format, metadata: dict[str, str]) -> None:
    with av.open(place, "w", format=kind.container, options=kind.muxing, metadata_encoding="latin-1") as file:
        file.metadata.update(metadata)
        film = file.add_stream("mpeg4", rate=25) if kind.with_video else None
        if film is not None:
            film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        sound = cast("AudioStream", file.add_stream(kind.codec, rate=kind.rate, options=kind.options))
        sound.layout = LAYOUTS[wave.shape[1]]
        if kind.bit_rate is not None:
            sound.bit_rate = kind.bit_rate
        if kind.quality is not None:
            sound.codec_context.qscale = True
            sound.codec_context.global_quality = kind.quality * 118  # FF_QP2LAMBDA
        if film is not None:
            for number in range(round(25 * len(wave) / kind.rate)):
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
                picture.pts = number
                file.mux(film.encode(picture))
            file.mux(film.encode(None))
        for frame in _frames(wave, sound, kind):
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))


def _frames(wave: np.ndarray, sound: AudioStream, kind: Format) -> list[av.AudioFrame]:
    """The waveform in frames of the encoder's own sample format."""
    resampler = av.AudioResampler(format=sound.format, layout=sound.layout, rate=kind.rate)
    frames: list[av.AudioFrame] = []
    for at in range(0, len(wave), PACKET_FRAMES):
        packed = np.ascontiguousarray(wave[at : at + PACKET_FRAMES].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=LAYOUTS[wave.shape[1]])
        frame.sample_rate, frame.pts = kind.rate, at + round(kind.start_sec * kind.rate)
        frames += resampler.resample(frame)
    return frames + resampler.resample(None)
