"""The data is what it was: every clip is held against its checksum, and all of them against the fingerprint."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from runyoro_ssl.dataset import read
from runyoro_ssl.dataset.content import checksum, content_digest, has_checksums, stored_content
from runyoro_ssl.dataset.read import Clips, load_splits, read_fingerprint
from runyoro_ssl.errors import DatasetError
from support.datasets_by_hand import change_fingerprint, reseal, train_file

RATE = 16_000


@pytest.fixture
def mine(dataset: Path, tmp_path: Path) -> Path:
    """The prepared corpus, which a test may damage."""
    return Path(shutil.copytree(dataset, tmp_path / "mine"))


def turn_round(folder: Path, clip: int) -> None:
    """Play a clip of the train split backwards, in place: as long, as loud, and another."""
    samples = np.array(datasets.load_from_disk(str(folder))["train"][clip]["audio"], np.int16)
    stored = train_file(folder).read_bytes()
    assert stored.count(samples.tobytes()) == 1
    with train_file(folder).open("r+b") as file:
        file.seek(stored.index(samples.tobytes()))
        file.write(samples[::-1].tobytes())


def without_checksums(folder: Path) -> None:
    """Make a dataset such as versions before 0.3 made."""
    splits = datasets.load_from_disk(str(folder)).remove_columns("crc32")
    splits.save_to_disk(str(folder) + ".old")
    for name in splits:
        shutil.rmtree(folder / name)
        (Path(str(folder) + ".old") / name).rename(folder / name)


def swap(folder: Path) -> None:
    """Give the dataset's place to one of clips as long, all backwards; the old one stays open for who reads it."""
    folder.rename(folder.with_name("before"))
    shutil.copytree(folder.with_name("before"), folder)
    stored = bytearray(train_file(folder).read_bytes())
    for row in datasets.load_from_disk(str(folder))["train"]:
        samples = np.array(row["audio"], np.int16)
        where = stored.index(samples.tobytes())
        stored[where : where + samples.nbytes] = samples[::-1].tobytes()
    train_file(folder).write_bytes(stored)


def test_checksums_are_those_of_the_samples(dataset: Path) -> None:
    """Each clip's is stored beside it; with ids and lengths they give the fingerprint's digest."""
    splits = load_splits(dataset, sampling_rate=RATE)
    for split in splits.values():
        clips = Clips(split)
        for row, columns in enumerate(split):
            assert columns["crc32"] == clips.checksum(row) == checksum(np.array(columns["audio"], np.int16))
    assert content_digest(stored_content(splits)) == read_fingerprint(dataset)["content_sha256"]


@pytest.mark.parametrize("start", [0, 9_000])
def test_a_clip_that_is_another_is_refused(mine: Path, start: int) -> None:
    """Also where only a window of it is read; the others are what they were."""
    turn_round(mine, 3)
    clips = Clips(load_splits(mine, sampling_rate=RATE)["train"])
    with pytest.raises(DatasetError, match="row 3 holds other samples than were written"):
        clips.waveform(3, start, 100)
    assert clips.waveform(2).size
    assert clips.waveform(4).size


def test_a_long_clip_is_held_against_its_checksum_once(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every window of it would cost the reading of all; one that is another is refused every time."""
    turn_round(mine, 3)
    clips = Clips(load_splits(mine, sampling_rate=RATE)["train"])
    counted: list[int] = []

    def counting(samples: np.ndarray) -> int:
        counted.append(len(samples))
        return checksum(samples)

    monkeypatch.setattr(read, "LONG_SAMPLES", 1000)
    monkeypatch.setattr(read, "checksum", counting)
    for start in range(0, 3000, 1000):
        clips.waveform(2, start, 1000)
        with pytest.raises(DatasetError):
            clips.waveform(3, start, 1000)
    assert sorted(counted) == sorted([clips.num_samples(2), *[clips.num_samples(3)] * 3])


def test_a_worker_knows_what_the_clips_were(mine: Path) -> None:
    """It maps the files of the place anew; of a dataset that was put there meanwhile, it takes nothing."""
    sent = pickle.dumps(Clips(load_splits(mine, sampling_rate=RATE)["train"]))
    swap(mine)
    assert Clips(datasets.load_from_disk(str(mine))["train"]).num_samples(0)
    for is_sealed in (False, True):
        if is_sealed:
            reseal(mine)
        clips = pickle.loads(sent)  # noqa: S301 - our own bytes
        for row in range(len(clips)):
            with pytest.raises(DatasetError, match="holds other samples"):
                clips.waveform(row)


def swap_wholly(folder: Path) -> None:
    """Give its place to one that is whole in itself."""
    swap(folder)
    reseal(folder)


def cut_short(file: Path) -> None:
    """Put a file with the first half of it in its place."""
    half = file.read_bytes()[: file.stat().st_size // 2]
    file.unlink()
    file.write_bytes(half)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "replaced by one of other samples": (swap_wholly, "other clips"),
    "moved away": (lambda folder: folder.rename(folder.with_name("away")), "it is gone"),
    "cut short": (lambda folder: cut_short(train_file(folder)), "cannot be read"),
    "another fingerprint": (lambda folder: change_fingerprint(folder, 64 * "0"), "tells of other clips"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_put_in_its_place_is_seen(mine: Path, change: str) -> None:
    """Before any other process opens it; and not where only the way there has changed."""
    clips = Clips(load_splits(mine, sampling_rate=RATE)["train"])
    assert clips.changed() is None
    do, said = CHANGES[change]
    do(mine)
    assert said in str(clips.changed())


def test_a_copy_is_the_same(mine: Path) -> None:
    """A dataset that was moved, copied back and touched holds the same clips."""
    clips = Clips(load_splits(mine, sampling_rate=RATE)["train"])
    mine.rename(mine.with_name("moved"))
    shutil.copytree(mine.with_name("moved"), mine, copy_function=shutil.copy)
    assert clips.changed() is None


def test_files_of_two_datasets_are_refused(mine: Path) -> None:
    """Before anything is made of them."""
    swap(mine)
    reseal(mine)
    with pytest.raises(DatasetError, match=r"not those that its fingerprint\.json tells of"):
        load_splits(mine, sampling_rate=RATE)


def test_older_datasets_are_read_as_before(mine: Path) -> None:
    """They cannot be checked clip by clip; that another one took their place is seen by its fingerprint."""
    without_checksums(mine)
    splits: Any = load_splits(mine, sampling_rate=RATE)
    assert not has_checksums(splits)
    clips = Clips(splits["train"])
    assert clips.waveform(0).size
    assert clips.checksum(0) == checksum(np.array(splits["train"][0]["audio"], np.int16))
    assert clips.changed() is None
    change_fingerprint(mine, 64 * "0")
    assert "tells of other clips" in str(clips.changed())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"splits": []}, r"splits is \[\], expected an object for each split"),
        ({"splits": {"train": 3}}, r"splits.train is 3, expected its number of clips"),
        ({"splits": {"train": {"clips": -1}}}, r"splits.train is {'clips': -1}"),
        ({"splits": {"train": {"clips": "x" * 10_000}}}, r"splits.train is {'clips': 'x+…, expected"),
        ({"content_sha256": None}, "content_sha256 is None, expected the digits of a hash"),
        ({"sampling_rate": True}, "sampling_rate is True, expected Hz"),
        ({"sampling_rate": 1e300}, r"sampling_rate is 1e\+300, expected Hz"),
        ({"format": "\x1b[31m"}, r"format '\\x1b\[31m', this version reads"),
        ({"format": 99}, "format 99, of a newer version"),
    ],
)
def test_absurd_fingerprints_are_refused_in_a_line(mine: Path, change: dict[str, Any], said: str) -> None:
    """What, where, the value, what to do; a value of any length is cut short."""
    path = mine / "fingerprint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DatasetError, match=said) as refused:
        read_fingerprint(mine)
    assert len(str(refused.value)) < 300 + 2 * len(str(mine))
