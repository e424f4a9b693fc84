"""Prepared datasets to choose donors from: of synthetic speech, of real speech, of music."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile as sf

from runyoro_ssl.audio.synth import SAMPLE_RATE, write_corpus
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.page.write import write_page
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.resolve import load_config

CHORDS_HZ = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (246.9, 311.1, 370.0))


def prepared(rows: Iterable[dict[str, object]], folder: Path, model: Path, *settings: str) -> Path:
    """The dataset of some lines of a manifest, in `folder`; without its page, which takes longer than all else.

    Recordings go by names that are the same wherever the files lie: what is held out is drawn by them.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    manifest = folder.with_suffix(".jsonl")
    manifest.write_text("".join(json.dumps({"recording": _name(row), **row}) + "\n" for row in rows))
    config = load_config(
        profile="cpu-smoke",
        settings=["prepare.segment=none", "prepare.allow_outside=true", "prepare.min_duration_sec=1", *settings],
        flags={
            "hardware": {"num_workers": 1},
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": manifest, "output_dir": folder, "validation_share": 0.2},
            "plugins": {"filters": ["duration"]},
        },
    )
    with mock.patch("runyoro_ssl.prepare.pipeline.write_page"):
        prepare(config, load_plugins(config))
    return folder


def _name(row: dict[str, object]) -> str:
    return "/".join(Path(str(row["audio_filepath"])).parts[-2:])


WRITE_PAGE = write_page
"""Of donors: their clips to hear."""


@contextmanager
def without_sound() -> Iterator[None]:
    """Donors are written without the page to hear their clips, which takes longer than all else."""

    def write_nothing(path: Path, *_given: object, **_named: object) -> None:
        path.write_text("to be heard")

    with mock.patch("runyoro_ssl.donors.write.write_page", write_nothing):
        yield


def row(path: Path, **more: object) -> dict[str, object]:
    """A line of a manifest."""
    return {"audio_filepath": str(path), "duration": sf.info(path).duration, **more}


def synthetic(folder: Path, model: Path, language: str, *, seed: int, num_clips: int = 24) -> Path:
    """A dataset of synthetic speech by four voices, of a lexicon of its own."""
    audio = folder.with_name(f"{folder.name}-audio")
    write_corpus(audio, num_clips=num_clips, num_voices=4, num_words=6, clip_sec=2.5, seed=seed)
    rows = [row(path, speaker=path.parent.name, language=language) for path in sorted(audio.rglob("*.wav"))]
    return prepared(rows, folder, model)


def write_music(folder: Path, num_clips: int, *, seed: int = 0, clip_sec: float = 5.0) -> list[Path]:
    """Plucked chords, a recording each."""
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(0.5 * SAMPLE_RATE)) / SAMPLE_RATE
    paths = []
    for number in range(num_clips):
        generator = np.random.default_rng([seed, number])
        notes = [CHORDS_HZ[at] for at in generator.integers(len(CHORDS_HZ), size=round(clip_sec / 0.5))]
        parts = [
            sum(np.sin(2 * np.pi * hertz * part * time) / part for hertz in chord for part in range(1, 6))
            for chord in notes
        ]
        wave = np.concatenate([np.asarray(part) * np.exp(-4 * time) for part in parts])
        paths.append(folder / f"{number:03d}.wav")
        sf.write(paths[-1], 0.3 * wave / np.abs(wave).max(), SAMPLE_RATE)
    return paths
