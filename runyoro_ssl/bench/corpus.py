"""The same speech as a folder of WAV and a folder of FLAC files, for the data benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runyoro_ssl.bars import progress
from runyoro_ssl.errors import AudioError, ManifestError

SAMPLE_RATE = 16_000
MAX_CLIP_SEC = 15.0
MIN_CLIP_SEC = 2.0
SYNTHETIC_CLIP_SEC = 8.0


def synthesise(folder: Path, minutes: float) -> Path:
    """Speech of `runyoro_ssl.audio.synth` in this folder, of about `minutes`."""
    from runyoro_ssl.audio.synth import write_corpus

    write_corpus(folder, num_clips=max(2, round(minutes * 60 / SYNTHETIC_CLIP_SEC)), clip_sec=SYNTHETIC_CLIP_SEC)
    return folder


def write_clips(audio_dir: Path, folder: Path, minutes: float) -> None:
    """Write `wav/` and `flac/`: the first `minutes` of the recordings, as 16-bit files of 2 to 15 s."""
    import soundfile as sf

    for extension in ("wav", "flac"):
        (folder / extension).mkdir()
    with progress("audio seconds") as bar:
        task = bar.add_task("Writing recordings", total=round(minutes * 60))
        num_clips = 0
        for num_clips, clip in enumerate(_clips(audio_dir, minutes), start=1):
            for extension in ("wav", "flac"):
                sf.write(folder / extension / f"{num_clips:05d}.{extension}", clip, SAMPLE_RATE, subtype="PCM_16")
            bar.advance(task, len(clip) / SAMPLE_RATE)
    if num_clips < 2:  # noqa: PLR2004 - two splits
        raise ManifestError(f"{audio_dir}: {num_clips} clips of 2 to 15 s can be read, 2 are needed; give more audio")


def _clips(audio_dir: Path, minutes: float) -> Iterator[Any]:
    """Pieces of the recordings, in the order of their paths, until `minutes` are reached. float32 (T,)."""
    from runyoro_ssl.audio.decode import decode
    from runyoro_ssl.prepare.clips.segment import cut_evenly
    from runyoro_ssl.prepare.sniff import AUDIO_EXTENSIONS

    left = round(minutes * 60 * SAMPLE_RATE)
    for path in sorted(path for path in audio_dir.rglob("*") if path.suffix.lower() in AUDIO_EXTENSIONS):
        try:
            waveform = decode(path, sample_rate=SAMPLE_RATE, duration_sec=left / SAMPLE_RATE)
        except AudioError:
            continue
        for start, stop in cut_evenly(len(waveform), round(MAX_CLIP_SEC * SAMPLE_RATE)):
            if stop - start >= MIN_CLIP_SEC * SAMPLE_RATE:
                yield waveform[start:stop]
                left -= stop - start
        if left < MIN_CLIP_SEC * SAMPLE_RATE:
            return
