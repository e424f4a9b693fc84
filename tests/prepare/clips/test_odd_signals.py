"""What becomes of recordings whose signal is not what it seems: from the folder to `clips.jsonl` and the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.audio.synth import make_lexicon, make_voices, synthesise
from runyoro_ssl.config import Config
from runyoro_ssl.dataset.read import Clips, load_splits
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.resolve import load_config

RATE = 16_000


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Synthetic speech, float32 (T,)."""
    draw = np.random.default_rng(seed)
    voice, lexicon = make_voices(4, draw)[seed % 4], make_lexicon(12, draw)
    words = [lexicon[index] for index in draw.integers(0, 12, round(4 * seconds))]
    return synthesise(words, voice, draw)[0][: round(seconds * RATE)]


def cut_wav(path: Path, wave: np.ndarray) -> None:
    """A WAV whose recorder lost power: it states no length."""
    sf.write(path, wave, RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = bytes(4)
    path.write_bytes(content)


@pytest.fixture
def outcome(tmp_path: Path, tiny_model: Path) -> Callable[..., tuple[dict[str, Any], dict[str, dict[str, Any]]]]:
    """A function (*settings) -> what manifest and prepare make of `tmp_path/in`: the report, and clips by recording."""
    sf.write(tmp_path / "speech.wav", speech(8, seed=1), RATE)

    def run(*settings: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        (tmp_path / "in" / "other").mkdir()
        (tmp_path / "speech.wav").rename(tmp_path / "in" / "other" / "speech.wav")
        scan(tmp_path / "in", tmp_path / "m.jsonl")
        config: Config = load_config(
            profile="cpu-smoke",
            settings=["prepare.split_by=recording", 'plugins.filters=["duration", "silence", "clipping"]', *settings],
            flags={
                "hardware": {"num_workers": 1},
                "model": {"model_name_or_path": str(tiny_model)},
                "prepare": {"manifest_path": tmp_path / "m.jsonl", "output_dir": tmp_path / "dataset"},
            },
        )
        report = prepare(config, load_plugins(config)).report
        samples = report["samples"]
        assert samples["in"] == samples["kept"] + sum(samples["dropped"].values())
        lines = map(json.loads, (tmp_path / "dataset" / "clips.jsonl").read_text().splitlines())
        return report, {line["recording"]: line for line in lines}

    (tmp_path / "in").mkdir()
    return run


def test_a_dead_channel_with_an_offset_is_silence(tmp_path: Path, outcome: Callable[..., Any]) -> None:
    """Its mean is no sound; steps and drifts of it are none, either."""
    steps = np.repeat([0.05, -0.02, 0.3], RATE).astype(np.float32)
    for name, wave in (
        ("dead", np.full(3 * RATE, 0.05)),
        ("steps", steps),
        ("drift", np.linspace(-0.3, 0.3, 3 * RATE)),
    ):
        sf.write(tmp_path / "in" / f"{name}.wav", wave, RATE)
    sf.write(tmp_path / "in" / "speech.wav", speech(5), RATE)
    report, clips = outcome()
    assert report["dropped"]["silence"]["times"] == 3 if "times" in report["dropped"]["silence"] else True
    assert set(clips) == {"speech.wav", "other/speech.wav"}


def test_opposite_channels_are_heard_and_said(tmp_path: Path, outcome: Callable[..., Any]) -> None:
    """Kept, at the level of the channel; the report names the recording."""
    wave = speech(5)
    sf.write(tmp_path / "in" / "balanced.wav", np.stack([wave, -wave], axis=1), RATE)
    report, clips = outcome()
    assert "balanced.wav" in clips
    (source,) = report["flawed_recordings"]
    assert report["flawed_recordings"][source].startswith("channels cancel: channel ")
    assert clips["balanced.wav"]["measures"]["level_dbfs"] > -40


@pytest.mark.parametrize("level_db", [-60.0, 9.5])
def test_float_recordings_keep_their_gain(tmp_path: Path, outcome: Callable[..., Any], level_db: float) -> None:
    """Neither silence nor clipping; what is stored divides back to what was recorded."""
    wave = speech(5)
    wave *= np.float32(10 ** (level_db / 20) / np.abs(wave).max())
    sf.write(tmp_path / "in" / "field.wav", wave, RATE, subtype="FLOAT")
    _, clips = outcome()
    gain = clips["field.wav"]["gain"]
    assert gain == pytest.approx(0.9 / np.abs(wave).max(), rel=1e-3)
    assert clips["other/speech.wav"]["gain"] == 1.0
    splits = load_splits(tmp_path / "dataset", sampling_rate=RATE)
    (split, row) = next(
        (split, row) for split in splits.values() for row, name in enumerate(split["recording"]) if name == "field.wav"
    )
    stored = Clips(split).waveform(row)
    np.testing.assert_allclose(stored / gain, wave, atol=1 / 32768 / gain)


@pytest.mark.parametrize(("segment", "seconds"), [("vad", 20.0), ("fixed", 20.0), ("vad", 8.0)])
def test_a_bad_number_costs_its_tenth_of_a_second(
    tmp_path: Path, outcome: Callable[..., Any], segment: str, seconds: float
) -> None:
    """It is in no clip, counted by its reason, and told of; all else is kept as without it."""
    wave = speech(seconds)
    wave[round(6.45 * RATE)] = np.nan
    sf.write(tmp_path / "in" / "field.wav", wave, RATE, subtype="FLOAT")
    report, _ = outcome(f"prepare.segment={segment}")
    assert report["samples"]["dropped"]["non-finite samples"] == RATE // 10
    assert list(report["flawed_recordings"].values()) == [
        "non-finite samples: 0.1 s without a number (NaN or infinity), first at second 6.4"
    ]
    assert report["seconds_kept"] > seconds - 3 + 8 - 3
    drops = [json.loads(line) for line in (tmp_path / "dataset" / "dropped.jsonl").read_text().splitlines()]
    assert [round(drop["offset_sec"], 3) for drop in drops if drop["reason"] == "non-finite samples"] == [6.4]


def test_a_flaw_that_the_manifest_found_is_told_by_prepare(tmp_path: Path, outcome: Callable[..., Any]) -> None:
    """In its report and on its page, though it decodes all that the line states."""
    cut_wav(tmp_path / "in" / "power.wav", speech(5))
    report, clips = outcome()
    assert "power.wav" in clips
    flaw = "not finalised: its header states no length, and all that is there was read"
    assert list(report["flawed_recordings"].values()) == [flaw]
    line = next(json.loads(row) for row in (tmp_path / "m.jsonl").read_text().splitlines() if "power" in row)
    assert line["flaw"] == flaw
    assert "not finalised" in (tmp_path / "dataset" / "prepare_report.html").read_text()
