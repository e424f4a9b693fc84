"""The files of a dataset, written here or in workers: the same bytes, and what ends a worker is done again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from runyoro_ssl.dataset.layout import dataset_features
from runyoro_ssl.dataset.write import DataFile, RowWriter, WriteFile, plan_files
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
def rows(tmp_path: Path) -> list[tuple[tuple[Path, int], int]]:
    """Forty rows of a shard, of 1 to 40 samples."""
    with RowWriter(tmp_path / "shard.arrow", dataset_features().arrow_schema) as writer:
        for number in range(1, 41):
            row = dict.fromkeys(("id", "recording", "speaker", "language", "source", "metadata"), str(number))
            writer.add({**row, "audio": np.full(number, number, np.int16), "num_samples": number})
    return [((tmp_path / "shard.arrow", number), number + 1) for number in range(40)]


def test_files_follow_from_the_rows(rows: list[tuple[tuple[Path, int], int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is closed when it has its samples; all rows are in one, in order."""
    monkeypatch.setattr("runyoro_ssl.dataset.write.FILE_SAMPLES", 100)
    files = plan_files(rows, Path("train"))
    assert [row for file in files for row in file.rows] == [place for place, _ in rows]
    sizes = [sum(number + 1 for _, number in file.rows) for file in files]
    assert all(100 <= size < 140 for size in sizes[:-1])
    names = [f"data-{number:05d}-of-{len(files):05d}.arrow" for number in range(len(files))]
    assert [file.path.name for file in files] == names


@pytest.mark.parametrize("work", [WriteFile, DiesOnce])
def test_workers_write_the_same(
    rows: list[tuple[tuple[Path, int], int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: type[WriteFile]
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
