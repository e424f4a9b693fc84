"""Long recordings for the data benchmarks: clips joined with pauses, in several formats, as many as are asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runyoro_ssl.bench.corpus import SAMPLE_RATE

STUDIO_RATE = 48_000
MAX_RECORDING_SEC = 1500.0
"""As long as is usual; hours are made of many."""
PAUSE_SEC = (0.3, 2.0)
ROOM_NOISE = 1e-4
"""Of full scale: -80 dB."""
BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True)
class Recording:
    """A file, and its seconds."""

    path: Path
    seconds: float


def write_recordings(clips: Path, folder: Path) -> dict[str, Recording]:
    """Join a folder of 16 kHz clips to 25 min at most, and write that as 16 and 48 kHz WAV, MP3 and m4a.

    Returns:
        The recordings by format.
    """
    import soxr

    folder.mkdir()
    speech = _join(clips)
    wide = soxr.resample(speech, SAMPLE_RATE, STUDIO_RATE, quality="HQ")
    formats: dict[str, tuple[Callable[[Path, np.ndarray, int], None], np.ndarray, int]] = {
        "wav16": (_write_wav, speech, SAMPLE_RATE),
        "wav48": (_write_wav, wide, STUDIO_RATE),
        "mp3": (_write_mp3, wide, STUDIO_RATE),
        "m4a": (_write_m4a, wide, STUDIO_RATE),
    }
    for name, (write, waveform, rate) in formats.items():
        write(folder / name, waveform, rate)
    return {name: Recording(folder / name, len(speech) / SAMPLE_RATE) for name in formats}


def repeat(recording: Recording, path: Path, times: int) -> Recording:
    """Write a recording some times over as one WAV file: as long as is wanted, and held in memory once."""
    import soundfile as sf

    samples, rate = sf.read(recording.path, dtype="int16")
    with sf.SoundFile(path, "w", samplerate=rate, channels=1, format="RF64", subtype="PCM_16") as file:
        for _ in range(times):
            file.write(samples)
    return Recording(path, times * len(samples) / rate)


def write_copies(recording: Recording, folder: Path, count: int, seconds: float | None = None) -> Path:
    """A folder of `count` names for one file, which take no room, and a manifest of them.

    Args:
        recording: The file.
        folder: Made.
        count: Names of the file, and lines of the manifest.
        seconds: What is used of each, the first of it; None: all.

    Returns:
        The manifest.
    """
    from runyoro_ssl.disk.durable import write_jsonl

    folder.mkdir()
    names = [f"{index:05d}" for index in range(count)]
    for name in names:
        _link(recording.path, folder / name)
    used = min(recording.seconds, seconds or recording.seconds)
    manifest = folder / "manifest.jsonl"
    write_jsonl(
        manifest, ({"audio_filepath": name, "offset": 0.0, "duration": used, "speaker": name} for name in names)
    )
    return manifest


def _link(path: Path, name: Path) -> None:
    """Give a file another name; where the system has no hard links, copy it."""
    try:
        os.link(path, name)
    except OSError:
        shutil.copyfile(path, name)


def _join(clips: Path) -> np.ndarray:
    """Clips in the order of their names, each with a pause of a quiet room, to 25 min or their end. float32 (T,)."""
    import soundfile as sf

    rng = np.random.default_rng(0)
    parts: list[np.ndarray] = []
    for path in sorted(clips.iterdir()):
        pause = rng.standard_normal(round(rng.uniform(*PAUSE_SEC) * SAMPLE_RATE), dtype=np.float32)
        parts += [sf.read(path, dtype="float32")[0], ROOM_NOISE * pause]
        if sum(map(len, parts)) >= MAX_RECORDING_SEC * SAMPLE_RATE:
            break
    return np.concatenate(parts, dtype=np.float32)


def _write_wav(path: Path, waveform: np.ndarray, rate: int) -> None:
    import soundfile as sf

    sf.write(path, waveform, rate, format="WAV", subtype="PCM_16")


def _write_mp3(path: Path, waveform: np.ndarray, rate: int) -> None:
    import soundfile as sf

    sf.write(path, waveform, rate, format="MP3")


def _write_m4a(path: Path, waveform: np.ndarray, rate: int) -> None:
    import av

    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        for start in range(0, len(waveform), BLOCK_FRAMES):
            block = np.ascontiguousarray(waveform[None, start : start + BLOCK_FRAMES])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
