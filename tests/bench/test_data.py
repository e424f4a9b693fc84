"""The data benchmarks: rows that hold together, and a reference that is what it says."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from conftest import transformers
from runyoro_ssl.bench import data
from runyoro_ssl.bench.corpus import write_clips
from runyoro_ssl.bench.data import bench_data, map_with_extractor, plan_reading
from runyoro_ssl.builtins.collators import PaddedCollator
from runyoro_ssl.config import MaskingConfig
from runyoro_ssl.errors import ManifestError
from runyoro_ssl.prepare.reading import Clips
from runyoro_ssl.train.batches import BatchBuilder


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_rows_hold_together(corpus: Path, scratch: Path) -> None:
    """Two ways to prepare and one to read, on a minute of audio; half the bytes; nothing is left behind."""
    rows = bench_data(audio_dir=corpus, runs=1, minutes=1.0)
    assert [(row.what, row.size) for row in rows] == [("prepare", "wav"), ("prepare", "flac"), ("read", "dataset")]
    for row in rows:
        assert len(row.ours) == len(row.reference) == 1
        assert row.extra["audio_seconds_per_second"] * row.ours[0] == pytest.approx(row.extra["audio_seconds"])
        assert 40 < row.extra["audio_seconds"] <= 60
        assert row.extra["core_seconds"] > 0
        json.dumps(row.to_json(), allow_nan=False)
    for row in rows[:2]:
        assert 0.45 < row.extra["bytes_ratio"] < 0.55
        assert 0 < row.extra["start_seconds"] < row.ours[0]
    assert not list(scratch.iterdir())


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
    for plan in plan_reading(ours):
        padded = extractor.pad([mapped[clip] for clip in plan.clips], padding=True, return_tensors="pt")
        torch.testing.assert_close(builder.read(plan).waveforms, padded["input_values"], atol=2e-5, rtol=0)


def test_reading_takes_one_thread_and_gives_the_others_back(
    corpus: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate is for one core; what comes after the benchmark is not slowed."""
    seen = []
    original = data._alternate

    def spy(what: str, *others: object) -> object:
        seen.append((what, torch.get_num_threads()))
        return original(what, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(data, "_alternate", spy)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        bench_data(audio_dir=corpus, runs=1, minutes=0.2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen[-1] == ("read", 1)
    assert not list(scratch.iterdir())


def test_too_little_audio_is_explained(tmp_path: Path) -> None:
    """An empty folder: what was found, and what is needed."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"empty: 0 clips of 2 to 15 s can be read, 2 are needed"):
        bench_data(audio_dir=tmp_path / "empty", runs=1)
