"""The data benchmarks: rows that hold together, and a reference that is what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import pytest
import torch

from conftest import transformers
from runyoro_ssl.audio.decode import decode
from runyoro_ssl.batches.build import BatchBuilder
from runyoro_ssl.bench import data, long, watched
from runyoro_ssl.bench.corpus import write_clips
from runyoro_ssl.bench.data import bench_data, map_with_extractor, plan_reading
from runyoro_ssl.bench.recordings import write_recordings
from runyoro_ssl.bench.watched import Usage, prepare_config, prepare_watched, remove_prepared
from runyoro_ssl.builtins.collators import PaddedCollator
from runyoro_ssl.config import Config, MaskingConfig
from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.errors import ConfigError, ManifestError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from support.preparation import workers_of


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def _few_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of long recordings one format, a minute and a half."""
    monkeypatch.setattr(long, "KINDS", (long.LongSubject("wav48", "fixed", hours=0.025, with_two=True),))
    monkeypatch.setattr(long, "START_SEC", 10.0)


@pytest.mark.long
@pytest.mark.usefixtures("fresh_workers")
def test_rows_hold_together(corpus: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ways to prepare, one to read, and long recordings, on a minute of audio; nothing is left behind.

    Reading takes one thread, for its rate is that of one core, and gives the others back.
    """
    seen = []
    original = data._alternate

    def spy(what: str, *others: object) -> object:
        seen.append((what, torch.get_num_threads()))
        return original(what, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(data, "_alternate", spy)
    monkeypatch.setattr(data, "_start_worker", cache(data._start_worker))  # once for both formats
    torch.set_num_threads(2)
    rows = bench_data(audio_dir=corpus, runs=1, minutes=1.0)
    assert torch.get_num_threads() == 2
    assert seen[-1] == ("read", 1)
    assert [(row.what, row.size) for row in rows] == [
        ("prepare", "wav"),
        ("prepare", "flac"),
        ("read", "dataset"),
        ("long", "wav48 fixed"),
        ("workers", "wav48 fixed"),
    ]
    for row in rows:
        json.dumps(row.to_json(), allow_nan=False)
    for row in rows[:3]:
        assert len(row.ours) == len(row.reference) == 1
        assert row.extra["audio_seconds_per_second"] * row.ours[0] == pytest.approx(row.extra["audio_seconds"])
        assert 40 < row.extra["audio_seconds"] <= 60
        assert row.extra["core_seconds"] > 0
    for row in rows[:2]:
        assert 0.45 < row.extra["bytes_ratio"] < 0.55
        assert 0 < row.extra["start_seconds"] < row.ours[0]
    alone, beside = rows[3:]
    assert alone.ours == beside.reference
    assert alone.extra["audio_seconds"] > 50
    assert alone.extra["start_core_seconds"] > 0
    rate, of_decoding = alone.extra["hours_per_core_minute"], alone.extra["decoding_hours_per_core_minute"]
    assert alone.extra["share_of_decoding"] == pytest.approx(rate / of_decoding)
    for row in (alone, beside):
        assert 10 << 20 < row.extra["worker_bytes"] <= row.extra["peak_bytes"]
    assert not list(scratch.iterdir())


@pytest.mark.long
def test_hours_are_prepared_in_both_ways(corpus: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many recordings in pieces, and two long ones cut at pauses; the hours are those that were asked for."""

    def prepare_here(config: Config) -> Usage:
        remove_prepared(config.prepare.output_dir)
        prepare(config, load_plugins(config))
        return Usage(seconds=2.0, core_seconds=1.0, main_bytes=20, worker_bytes=10)

    monkeypatch.setattr(long, "prepare_watched", prepare_here)
    monkeypatch.setattr(long, "VAD_SHARE", 0.5)
    monkeypatch.setattr(long, "MIN_HOURS", 0.01)
    rows = bench_data(audio_dir=corpus, runs=1, minutes=0.5, hours=0.05)
    assert [(row.what, row.size.split()[-1]) for row in rows] == [("corpus", "fixed"), ("corpus", "vad")]
    for row in rows:
        assert row.extra["audio_seconds"] == pytest.approx(0.05 * 3600, rel=0.3)
        assert (row.extra["peak_bytes"], row.extra["worker_bytes"]) == (20, 10)
        json.dumps(row.to_json(), allow_nan=False)
    assert not list(scratch.iterdir())


def test_wrong_hours_are_explained(corpus: Path, scratch: Path) -> None:
    """Before anything is prepared: too few to tell, or too many for the disk."""
    with pytest.raises(ConfigError, match=r"--hours 0.5 is too little to measure; give 1 or more"):
        bench_data(audio_dir=corpus, runs=1, minutes=0.2, hours=0.5)
    with pytest.raises(ConfigError, match=r"--hours 1e\+06 takes 253440 GB in .*; give fewer hours, or set TMPDIR"):
        bench_data(audio_dir=corpus, runs=1, minutes=0.2, hours=1e6)
    assert not list(scratch.iterdir())


def test_recordings_are_one_speech_in_every_format(corpus: Path, tmp_path: Path) -> None:
    """The clips with pauses between them; every format decodes to the same, but for its coding."""
    write_clips(corpus, tmp_path, minutes=0.2)
    made = write_recordings(tmp_path / "wav", tmp_path / "recordings")
    assert made.keys() == {"wav16", "wav48", "mp3", "m4a"}
    expected = decode(made["wav16"].path, sample_rate=16_000)
    clips = [decode(path, sample_rate=16_000) for path in sorted((tmp_path / "wav").iterdir())]
    np.testing.assert_array_equal(expected[: len(clips[0])], clips[0])
    assert len(expected) > sum(map(len, clips)) + 0.3 * 16_000 * len(clips)
    for recording in made.values():
        decoded = decode(recording.path, sample_rate=16_000)
        assert len(decoded) / 16_000 == pytest.approx(recording.seconds, abs=0.1)
        size = min(len(decoded), len(expected))
        assert np.corrcoef(decoded[:size], expected[:size])[0, 1] > 0.95


def test_failed_preparation_is_no_figure(tmp_path: Path) -> None:
    """It raises: a row of a run that did not happen would look fast."""
    with pytest.raises(RuntimeError, match="ended with status 1"):
        prepare_watched(prepare_config(tmp_path, tmp_path / "none.jsonl", tmp_path / "prepared"))


def test_interrupted_preparation_ends_quietly(
    corpus_manifest: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Ctrl-C goes to all of the group: nothing that it started outlives it, or says so."""
    started: list[psutil.Process] = []

    def interrupted(process: Any) -> None:
        main = psutil.Process(process.pid)
        while len(started) < 2:  # itself, and its worker
            assert process.is_alive()
            started[:] = [main, *workers_of(process)]
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(watched, "_watch", interrupted)
    shutil.copytree(tiny_model, tmp_path / "model")
    with pytest.raises(KeyboardInterrupt):
        prepare_watched(prepare_config(tmp_path, corpus_manifest, tmp_path / "prepared"))
    assert not started[0].is_running()
    assert psutil.wait_procs(started, timeout=5)[1] == []
    assert capfd.readouterr().err == ""


def test_both_sides_read_the_same_batches(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    """Our batches of a prepared split equal those of the feature extractor's own dataset and `pad`."""
    write_clips(corpus, tmp_path, minutes=0.5)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    map_with_extractor(tmp_path / "wav", extractor, tmp_path / "mapped")
    mapped = datasets.load_from_disk(str(tmp_path / "mapped"))
    assert mapped.features["input_values"].feature.dtype == "float32"
    samples = [
        np.frombuffer(path.read_bytes()[44:], np.int16).tolist() for path in sorted((tmp_path / "wav").iterdir())
    ]
    features = datasets.load_from_disk(str(dataset))["train"].features
    features = datasets.Features({name: features[name] for name in ("audio", "num_samples")})
    ours = datasets.Dataset.from_dict({"audio": samples, "num_samples": list(map(len, samples))}, features=features)
    builder = BatchBuilder(Clips(ours), None, MaskingConfig(), PaddedCollator(), (), True, True, 0)  # noqa: FBT003
    plans = list(plan_reading(ours))
    assert sorted(clip for plan in plans for clip in plan.clips) == list(range(len(samples)))
    for plan in plans:
        padded = extractor.pad([mapped[clip] for clip in plan.clips], padding=True, return_tensors="pt")
        torch.testing.assert_close(builder.read(plan).waveforms, padded["input_values"], atol=2e-5, rtol=0)


def test_too_little_audio_is_explained(tmp_path: Path) -> None:
    """An empty folder: what was found, and what is needed."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"empty: 0 clips of 2 to 15 s can be read, 2 are needed"):
        bench_data(audio_dir=tmp_path / "empty", runs=1)
