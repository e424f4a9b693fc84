"""Reading: the samples of the dataset's own rows, whatever it is made of."""

from __future__ import annotations

import json
import math
import multiprocessing
import pickle
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import datasets
import numpy as np
import pytest

from runyoro_ssl.dataset.read import Clips, load_splits, read_fingerprint
from runyoro_ssl.errors import DatasetError


def oracle(split: Any, clip: int) -> np.ndarray:
    """What datasets itself gives, one Python number at a time."""
    return np.array(split[clip]["audio"], dtype=np.float32) / np.float32(32768)


@pytest.fixture(params=["whole", "select", "slice", "concatenate", "concatenate of selections", "in memory"])
def split(dataset: Path, request: pytest.FixtureRequest) -> Any:
    """The prepared corpus in every shape that datasets may hand out."""
    splits = datasets.load_from_disk(str(dataset))
    train, validation = splits["train"], splits["validation"]
    odd = train.select([5, 2, 2, 9])
    return {
        "whole": train,
        "select": odd,
        "slice": train.select(range(3, 8)),
        "concatenate": datasets.concatenate_datasets([validation, train, train.select(range(4, 7))]),
        "concatenate of selections": datasets.concatenate_datasets([odd, validation.select([1])]).select([4, 0, 3]),
        "in memory": datasets.Dataset.from_list(list(odd), features=odd.features),
    }[request.param]


def test_clips_are_the_rows_of_the_split(split: Any) -> None:
    """Every sample, scaled exactly; also after pickling, as for a worker."""
    for clips in (Clips(split), pickle.loads(pickle.dumps(Clips(split)))):  # noqa: S301 - our own bytes
        assert len(clips) == len(split)
        for clip in range(len(split)):
            waveform = clips.waveform(clip)
            assert waveform.dtype == np.float32
            assert clips.num_samples(clip) == len(waveform) == split[clip]["num_samples"]
            np.testing.assert_array_equal(waveform, oracle(split, clip))


def test_window_stays_in_its_clip(split: Any) -> None:
    """A window is that part of the clip; past the end it is shorter, and never the next clip's beginning."""
    clips, last = Clips(split), len(split) - 1
    for clip in (0, last):
        whole = oracle(split, clip)
        for start, num_samples in ((0, 1), (1000, 1600), (len(whole) - 10, 100), (len(whole), 5), (7, None)):
            stop = None if num_samples is None else start + num_samples
            np.testing.assert_array_equal(clips.waveform(clip, start, num_samples), whole[start:stop])


def test_waveform_is_a_copy(split: Any) -> None:
    """Who reads a clip may change it: the dataset stays as it is."""
    clips = Clips(split)
    clips.waveform(0)[:] = 0
    np.testing.assert_array_equal(clips.waveform(0), oracle(split, 0))


@pytest.mark.parametrize("clip", [-1, 4])
def test_clip_that_does_not_exist(dataset: Path, clip: int) -> None:
    """No negative numbers: they would read a wrong clip through a selection."""
    split = datasets.load_from_disk(str(dataset))["train"].select(range(4))
    with pytest.raises(IndexError, match=f"clip {clip} of 4"):
        Clips(split).waveform(clip)


def test_spawned_worker_reads_the_same(split: Any) -> None:
    """A new process maps the files for itself."""
    clips = Clips(split)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(clips.waveform, (1, 10, 1000))
    np.testing.assert_array_equal(there, clips.waveform(1, 10, 1000))


def test_other_columns_are_refused() -> None:
    """Floats from another tool are not samples of ours."""
    split = datasets.Dataset.from_dict({"audio": [[0.5, 0.25]]})
    with pytest.raises(DatasetError, match=r"list<item: double>.*expected lists of int16"):
        Clips(split)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("Memory mapping file failed: Cannot allocate memory"), "memory is short of opening it .*ulimit -v"),
        (PermissionError(13, "Permission denied"), "it may not be read .*give yourself the right to"),
        (OSError("Invalid flatbuffers message"), "damaged .*prepare --overwrite"),
    ],
)
def test_want_of_memory_or_rights_is_no_damage(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """Nobody is told to make a whole dataset anew because it could not be opened here and now."""
    monkeypatch.setattr("datasets.load_from_disk", Mock(side_effect=error))
    with pytest.raises(DatasetError, match=said):
        load_splits(dataset, sampling_rate=16_000)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("settings", [1], r"settings.max_duration_sec is \[1\]"),
        ("settings", {"max_duration_sec": "abc"}, "settings.max_duration_sec is 'abc'"),
        ("settings", {"max_duration_sec": math.nan}, "settings.max_duration_sec is nan"),
        ("settings", {"max_duration_sec": 10**400}, "settings.max_duration_sec is 1000"),
        ("splits", [1], r"splits is \[1\]"),
        ("splits", {}, "splits is {}"),
        ("splits", {"train": 3}, "splits.train is 3"),
        ("splits", {"train": {}}, "splits.train is {}"),
        ("splits", {"train": {"clips": -1}}, "splits.train is"),
        ("splits", {"train": {"clips": "x" * 10_000}}, "splits.train is .{50,80}…"),
        ("sampling_rate", "x", "sampling_rate is 'x'"),
        ("sampling_rate", True, "sampling_rate is True"),
        ("content_sha256", None, "content_sha256 is None"),
        ("sha256", 3, "sha256 is 3"),
        ("format", "\x1b[31m", r"format '\\x1b\[31m', this version reads 1"),
    ],
)
def test_absurd_fingerprint_is_one_line(dataset: Path, tmp_path: Path, name: str, value: Any, complaint: str) -> None:
    """The file, the value as it may be shown, and what to do."""
    fingerprint = read_fingerprint(dataset)
    (tmp_path / "fingerprint.json").write_text(json.dumps({**fingerprint, name: value}))
    with pytest.raises(DatasetError, match=rf"fingerprint.json: {complaint}.*--overwrite") as raised:
        read_fingerprint(tmp_path)
    assert len(str(raised.value)) < 500


def test_fingerprint_of_a_newer_version(dataset: Path, tmp_path: Path) -> None:
    """What it adds is ignored; a newer format is refused, and the newer dataset is not to be overwritten."""
    fingerprint = read_fingerprint(dataset)
    path = tmp_path / "fingerprint.json"
    path.write_text(json.dumps({**fingerprint, "future": 1}))
    assert read_fingerprint(tmp_path)["future"] == 1
    path.write_text(json.dumps({**fingerprint, "format": 2}))
    with pytest.raises(DatasetError, match="format 2, of a newer version") as raised:
        read_fingerprint(tmp_path)
    assert "--overwrite" not in str(raised.value)
    path.write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"fingerprint.json: damaged"):
        read_fingerprint(tmp_path)
