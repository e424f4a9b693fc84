"""Golden bytes: small corpora, prepared, give exactly the dataset, drops, split and report in bytes.json.

`pytest tests/golden --rewrite-golden` pins them anew. Encoders of other versions may write other bytes: what is encoded
here is lossless, and voice.mp3.txt is an MP3 of our own voice, made once.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from datasets import load_from_disk

from conftest import build_tiny_model
from runyoro_ssl.audio.synth import make_lexicon, make_voices, synthesise
from runyoro_ssl.dataset.content import checksum
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.clips import CLIPS_VERSION
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.scan import rejected_path, scan
from runyoro_ssl.resolve import load_config
from support.pins import REWRITE, check, differences
from support.preparation import read_lines, write_lines
from support.recordings import Format, encode

BYTES = Path(__file__).with_name("bytes.json")
MP3 = Path(__file__).with_name("voice.mp3.txt")
RATE = 16_000
TOLD_SAMPLES = 8
DECIDED = ("split", "rows", "audio", "samples", "measures", "clips", "dropped")
"""Parts that CLIPS_VERSION stands for: where one differs, what was prepared before is no longer what would be made."""
DETAILS_OF_LIBRARIES = {"unreadable"}
"""Reasons whose detail is in the words of a decoder."""

Recordings = dict[str, tuple[int, np.ndarray]]
"""Relative path -> sampling rate, float32 (T,) or (T, channels)."""


def speech(number: int, seconds: float, rate: int = RATE) -> np.ndarray:
    """So much synthetic speech, float32 (T,): a voice and words of its own for every number."""
    rng = np.random.default_rng(number)
    voice, lexicon = make_voices(1, rng)[0], make_lexicon(8, rng)
    words = [lexicon[int(rng.integers(8))] for _ in range(8 + 4 * round(seconds))]
    wave, _ = synthesise(words, voice, rng)
    time = np.arange(round(seconds * rate)) / rate
    spoken: np.ndarray = np.interp(time, np.arange(len(wave)) / RATE, wave).astype(np.float32)
    return spoken


def of_formats() -> Recordings:
    """What is read by libsndfile and by FFmpeg, at the model's rate and at others, mono and stereo."""
    two = speech(2, 3.1, 44_100)
    return {
        "a/pcm.wav": (RATE, speech(1, 3.0)),
        "a/stereo.wav": (44_100, np.stack([two, 0.5 * two], axis=1)),
        "b/pcm.flac": (RATE, speech(3, 2.5)),
        "b/deep.flac": (48_000, speech(4, 2.7, 48_000)),
        "c/pcm.aiff": (22_050, speech(5, 2.9, 22_050)),
        "c/lossless.m4a": (44_100, np.stack([speech(6, 2.6, 44_100)] * 2, axis=1)),
        "d/flac.mka": (RATE, speech(7, 3.3)[:, None]),
    }


def of_cuts() -> Recordings:
    """What is longer than a clip may be, and a tape of which the manifest names parts."""
    return {"e/long.wav": (RATE, speech(8, 9.3)), "f/tape.flac": (RATE, speech(9, 8.0))}


def of_filters() -> Recordings:
    """Two clips for each default of the filters: on either side of it, and near."""
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype(np.float32)
    frame = np.arange(len(tone)) // (RATE // 40)  # 120 of 25 ms
    half = speech(11, 6.0)
    loud = {"few": (0.0095, 1.0), "many": (0.0105, 1.0), "nearly": (0.05, 0.9986)}
    return {
        "g/short.wav": (RATE, speech(12, 1.95)),
        "g/just.wav": (RATE, speech(13, 2.0)),
        "g/seldom.wav": (RATE, np.where(frame % 24 == 0, 0.1 * tone, 0)),
        "h/often.wav": (RATE, np.where(frame % 19 == 0, 0.1 * tone, 0)),
        "h/quiet.wav": (RATE, tone * np.float32(np.sqrt(2) * 10 ** (-55.3 / 20))),
        "h/soft.wav": (RATE, tone * np.float32(np.sqrt(2) * 10 ** (-54.7 / 20))),
        **{
            f"i/{name}.wav": (
                RATE,
                np.where(np.arange(len(tone)) % 2000 < 2000 * share, level, speech(15 + index, 3.0)),
            )
            for index, (name, (share, level)) in enumerate(loud.items())
        },
        "j/first.wav": (RATE, half[: 3 * RATE]),
        "j/again.flac": (RATE, 0.5 * half[: 3 * RATE]),
        "k/less.wav": (RATE, np.concatenate([half[: round(1.35 * RATE)], speech(18, 1.8)])),
        "k/more.wav": (RATE, np.concatenate([half[: round(1.45 * RATE)], speech(14, 1.8)])),
    }


def write_recordings(folder: Path, recordings: Recordings) -> list[dict[str, Any]]:
    """Write each as its name says; returns a manifest line for each, its folder being the speaker."""
    rows = []
    for name, (rate, wave) in recordings.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in {".m4a", ".mka"}:
            codec, container = {".m4a": ("alac", "ipod"), ".mka": ("flac", "matroska")}[path.suffix]
            encode(path, wave, Format(codec, container, rate, wave.shape[1]))
        else:
            sf.write(path, wave, rate, subtype="PCM_24" if path.suffix == ".aiff" else "PCM_16")
        rows.append({"audio_filepath": name, "duration": len(wave) / rate, "speaker": path.parent.name})
    return rows


def write_messy_corpus(folder: Path) -> tuple[Path, Recordings]:
    """Every kind of recording and of fault. Returns its manifest, and what was synthesised."""
    recordings = of_formats() | of_cuts() | of_filters()
    by_name = {row["audio_filepath"]: row for row in write_recordings(folder, recordings)}
    (folder / "voice.mp3").write_bytes(base64.b64decode(MP3.read_text(encoding="ascii")))
    (folder / "noise.wav").write_bytes(np.random.default_rng(0).bytes(4000))
    (folder / "nothing.wav").touch()
    by_name["a/stereo.wav"] |= {"language": "nyo", "licence": "CC0-1.0", "text": "ekitabu ç ŋ"}
    by_name["e/long.wav"]["duration"] = 9.9
    tape = by_name.pop("f/tape.flac")
    rows = [
        *by_name.values(),
        {**tape, "offset": 0.5, "duration": 2.75, "recording": "tape 1"},
        {**tape, "offset": 4.25, "duration": 3.0, "recording": "tape 1"},
        {**tape, "offset": 4.25, "duration": 3.0, "recording": "tape 1"},
        {"audio_filepath": "voice.mp3", "duration": 2.2, "language": "lug"},
        {"audio_filepath": "noise.wav", "duration": 3.0},
        {"audio_filepath": "nothing.wav", "duration": 3.0},
        {"audio_filepath": "missing.wav", "duration": 3.0},
        {**by_name["b/pcm.flac"], "duration": 3.9, "speaker": "l"},
    ]
    return write_lines(folder / "manifest.jsonl", rows), recordings


def write_talks(folder: Path) -> tuple[Path, Recordings]:
    """Recordings with long pauses, and with none, and the manifest that `invoke manifest` makes of them."""
    silence = 0.0005 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    talks = [speech(20, 5.0), silence[: 2 * RATE], speech(21, 2.4), silence[:RATE], speech(22, 4.0), silence]
    recordings: Recordings = {
        "m/talk.wav": (RATE, np.concatenate(talks)),
        "n/chat.flac": (RATE, speech(23, 14.0)),
        "o/word.wav": (RATE, speech(24, 3.0)),
        "p/rain.wav": (RATE, np.concatenate([20 * silence, 20 * silence])),
    }
    write_recordings(folder, recordings)
    (folder / "p" / "noise.wav").write_bytes(np.random.default_rng(0).bytes(4000))
    scan(folder, folder / "manifest.jsonl", speaker_from="^(.)/")
    return folder / "manifest.jsonl", recordings


CORPORA = {"messy": (write_messy_corpus, "fixed"), "talks": (write_talks, "vad")}


@pytest.mark.usefixtures("fresh_workers")
@pytest.mark.parametrize("name", CORPORA)
def test_dataset_is_that_pinned(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Inputs, manifest, rows, audio, measures, drops, split and report are what they were."""
    write, segment = CORPORA[name]
    manifest, recordings = write(tmp_path / "corpus")
    config = load_config(
        profile="cpu-smoke",
        settings=[
            "hardware.num_workers=1",
            f"model.model_name_or_path={build_tiny_model(tmp_path / 'model')}",
            f"prepare.manifest_path={manifest}",
            f"prepare.output_dir={tmp_path / 'dataset'}",
            f"prepare.segment={segment}",
            "prepare.max_duration_sec=4",
            "prepare.validation_share=0.3",
        ],
    )
    prepare(config, load_plugins(config))
    found: dict[str, Any] = {"inputs": digests(recordings), "manifest": read_lines(manifest)}
    if rejected_path(manifest).exists():
        found["rejected"] = [_without_words(row) for row in read_lines(rejected_path(manifest))]
    found |= {"clips_version": CLIPS_VERSION} | describe(tmp_path / "dataset", recordings)
    if changed := unannounced(json.loads(BYTES.read_text(encoding="utf-8")).get(name, {}), found):
        pytest.fail(
            f"{BYTES.name}, {name}: {', '.join(changed)} changed and CLIPS_VERSION did not: raise it in "
            f"runyoro_ssl/prepare/clips/__init__.py, then {REWRITE}\n{differences_in(name, found)}",
            pytrace=False,
        )
    check(pytestconfig, BYTES, (name,), found, tolerance)


def unannounced(pinned: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The parts that differ although the clips are of the version, and of the recordings, that were pinned."""
    same = [pinned.get(name) == found[name] for name in ("clips_version", "inputs")]
    return [part for part in differences(pinned, found, tolerance) if part in DECIDED] if all(same) else []


def differences_in(name: str, found: Mapping[str, Any]) -> str:
    """The first of what differs in each part."""
    pinned = json.loads(BYTES.read_text(encoding="utf-8"))[name]
    return "\n".join(f"{part}: {lines[0]}" for part, lines in differences(pinned, found, tolerance).items())


@pytest.mark.parametrize("part", DECIDED)
def test_changed_clips_need_a_new_version(part: str) -> None:
    """Other clips under the same CLIPS_VERSION are refused, pinned anew or not; under a new one they are not."""
    pinned = json.loads(BYTES.read_text(encoding="utf-8"))["messy"]
    assert unannounced(pinned, pinned) == []
    changed = {**pinned, part: "otherwise"}
    assert unannounced(pinned, changed) == [part]
    assert unannounced(pinned, changed | {"clips_version": pinned["clips_version"] + 1}) == []
    assert unannounced(pinned, changed | {"inputs": {}}) == []


def tolerance(path: str) -> tuple[float, float]:
    """Resamplers and lossy decoders differ by a step of 16 bits between CPUs; what is measured of that, accordingly."""
    if path.startswith("samples/"):
        return 0.0, 2.0
    return (1e-3, 1e-2) if path.startswith(("measures/", "report/measures/")) else (0.0, 0.0)


def digests(recordings: Recordings) -> dict[str, str]:
    """SHA-256 of what was synthesised, as 16 bits: if this differs, so will all."""
    return {name: _sha256(np.rint(wave * 32767).astype(np.int16)) for name, (_, wave) in recordings.items()}


def describe(dataset: Path, recordings: Recordings) -> dict[str, Any]:
    """All of a dataset that does not name a version or a place on this machine, part by part."""
    ids: dict[str, list[str]] = {}
    rows: dict[str, Any] = {}
    audio: dict[str, str] = {}
    samples: dict[str, list[int]] = {}
    for split, part in load_from_disk(str(dataset)).items():
        ids[split] = part["id"][:]
        for row in part.with_format("numpy", columns=["audio"], output_all_columns=True):
            wave = np.asarray(row.pop("audio"), np.int16)
            clip = row.pop("id")
            assert row.pop("crc32") == checksum(wave)
            rows[clip] = row
            samples[clip] = wave[:: len(wave) // TOLD_SAMPLES].tolist()
            if recordings.get(row["source"], (0,))[0] == RATE:
                audio[clip] = _sha256(wave)
    clips = {clip.pop("id"): clip for clip in read_lines(dataset / "clips.jsonl")}
    return {
        "split": ids,
        "rows": rows,
        "audio": audio,
        "samples": samples,
        "measures": {name: clip.pop("measures") for name, clip in clips.items()},
        "clips": clips,
        "dropped": [_without_words(drop) for drop in read_lines(dataset / "dropped.jsonl")],
        "report": json.loads((dataset / "prepare_report.json").read_text(encoding="utf-8")),
    }


def _without_words(drop: Mapping[str, Any]) -> dict[str, Any]:
    """A drop without what only the library's version decides."""
    return {
        name: value for name, value in drop.items() if name != "detail" or drop["reason"] not in DETAILS_OF_LIBRARIES
    }


def _sha256(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()
