"""The files of a dataset, written here or in workers: the same bytes, and what ends a worker is done again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.dataset.content import checksum
from runyoro_ssl.dataset.layout import dataset_features, shard_features
from runyoro_ssl.dataset.write import DataFile, RowWriter, StoredRow, WriteFile, plan_files
from runyoro_ssl.errors import DatasetError
from runyoro_ssl.prepare import saving
from runyoro_ssl.prepare.saving import write_in_workers
from support.preparation import contents


@dataclass(frozen=True)
class DiesOnce(WriteFile):
    """A worker that is killed over the third file; the main process is not."""

    main: int = 0

    def __call__(self, file: DataFile) -> int:
        """Write, or die."""
        if "00002-of" in file.path.name and os.getpid() != self.main:
            os.abort()
        return super().__call__(file)


@pytest.fixture
def rows(tmp_path: Path) -> list[StoredRow]:
    """Forty rows of a shard, of 1 to 40 samples."""
    clips = [np.full(number, number, np.int16) for number in range(1, 41)]
    with RowWriter(tmp_path / "shard.arrow", shard_features().arrow_schema) as writer:
        for clip in clips:
            row = dict.fromkeys(("id", "recording", "speaker", "language", "source", "metadata"), str(len(clip)))
            writer.add({**row, "audio": clip, "num_samples": len(clip)})
    places = ((tmp_path / "shard.arrow", number) for number in range(40))
    return [StoredRow(place, len(clip), checksum(clip)) for place, clip in zip(places, clips, strict=True)]


def test_files_follow_from_the_rows(rows: list[StoredRow], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is closed when it has its samples; all rows are in one, in order."""
    monkeypatch.setattr("runyoro_ssl.dataset.write.FILE_SAMPLES", 100)
    files = plan_files(rows, Path("train"))
    assert [row for file in files for row in file.rows] == rows
    sizes = [sum(row.num_samples for row in file.rows) for file in files]
    assert all(100 <= size < 140 for size in sizes[:-1])
    names = [f"data-{number:05d}-of-{len(files):05d}.arrow" for number in range(len(files))]
    assert [file.path.name for file in files] == names


@pytest.mark.parametrize("work", [WriteFile, DiesOnce])
def test_workers_write_the_same(
    rows: list[StoredRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: type[WriteFile]
) -> None:
    """As this process alone, though a worker dies."""
    monkeypatch.setattr("runyoro_ssl.dataset.write.FILE_SAMPLES", 200)
    monkeypatch.setattr(saving, "WORTH_WORKERS", 2)
    for name, num_workers in (("here", 1), ("there", 2)):
        (tmp_path / name).mkdir()
        write = work(dataset_features().arrow_schema, **({} if work is WriteFile else {"main": os.getpid()}))
        write_in_workers(num_workers, write, plan_files(rows, tmp_path / name))
    assert len(contents(tmp_path / "here")) > 3
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_damaged_shard_becomes_no_dataset(rows: list[StoredRow], tmp_path: Path) -> None:
    """Samples that are not those of the account are named with their file, and what to do."""
    stored = (tmp_path / "shard.arrow").read_bytes()
    where = stored.index(np.full(30, 30, np.int16).tobytes())
    (tmp_path / "shard.arrow").write_bytes(stored[:where] + b"?" + stored[where + 1 :])
    with pytest.raises(DatasetError, match=r"shard\.arrow: row 29 holds other samples .*Remove that file"):
        WriteFile(dataset_features().arrow_schema)(DataFile(tmp_path / "file.arrow", tuple(rows)))
