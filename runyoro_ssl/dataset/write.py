"""Write rows of a dataset: to shards as they come, and from many shards to a Hugging Face DatasetDict.

The DatasetDict has the same bytes whatever the shards were.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from runyoro_ssl.dataset.content import checksum
from runyoro_ssl.dataset.layout import CHECKSUM, dataset_features
from runyoro_ssl.errors import DatasetError

FILE_SAMPLES = 1 << 25
"""Samples of one file: 64 MB, 35 minutes at 16 kHz. What several workers write at a time."""
BATCH_ROWS = 32
"""Rows written at a time: 15 MB of clips of 15 s; ..."""
BATCH_SAMPLES = 1 << 24
"""... and fewer of longer ones: 32 MB."""

RowPlace = tuple[Path, int]
"""The Arrow file of a shard, and the number of a row in it."""


class StoredRow(NamedTuple):
    """A row of a shard, with what its account says of its clip."""

    place: RowPlace
    num_samples: int
    crc32: int


@dataclass(frozen=True)
class DataFile:
    """A file of a split, to be written: its rows, in order."""

    path: Path
    rows: tuple[StoredRow, ...]


@dataclass(frozen=True)
class WriteFile:
    """The work of writing a file of a split, an Arrow stream. Picklable, for workers; `schema` is the dataset's."""

    schema: Any

    def __call__(self, file: DataFile) -> int:
        """Write it; returns its number of rows.

        Raises:
            DatasetError: A shard is damaged: a clip in it is not what its account says.
        """
        import pyarrow as pa

        with pa.OSFile(str(file.path), "wb") as sink, pa.ipc.new_stream(sink, self.schema) as writer:
            for batch in _batches(file.rows, self.schema):
                writer.write_batch(batch)
        return len(file.rows)


WriteAll = Callable[[WriteFile, Sequence[DataFile]], object]


def save_splits(splits: Mapping[str, Sequence[StoredRow]], folder: Path, *, digest: str, write_all: WriteAll) -> None:
    """Write each split, and what `datasets.load_from_disk` asks for beside it.

    Args:
        splits: The rows of each, in order.
        folder: Made, with a folder for each split.
        digest: Told to `datasets` as the fingerprint, which names what it derives from this dataset.
        write_all: Called with the work and all files, to have the one do the others, in any order, here or in workers.
    """
    planned = {name: plan_files(rows, folder / name) for name, rows in splits.items()}
    for name in planned:
        (folder / name).mkdir(parents=True)
    write_all(WriteFile(dataset_features().arrow_schema), [file for files in planned.values() for file in files])
    for name, files in planned.items():
        _write_state(folder / name, [file.path.name for file in files], digest, name)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}), encoding="utf-8")


def plan_files(rows: Sequence[StoredRow], folder: Path) -> list[DataFile]:
    """Plan the files of a split: they follow from its rows alone, wherever these are now."""
    parts: list[list[StoredRow]] = []
    room = 0
    for row in rows:
        if room <= 0:
            parts.append([])
            room = FILE_SAMPLES
        parts[-1].append(row)
        room -= row.num_samples
    names = (f"data-{index:05d}-of-{len(parts):05d}.arrow" for index in range(len(parts)))
    return [DataFile(folder / name, tuple(part)) for name, part in zip(names, parts, strict=True)]


def _batches(rows: Sequence[StoredRow], schema: Any) -> Iterator[Any]:
    """The rows, `BATCH_ROWS` at a time."""
    import pyarrow as pa

    for start in range(0, len(rows), BATCH_ROWS):
        wanted = rows[start : start + BATCH_ROWS]
        # Mapped anew for each batch: of a file that stays mapped, all that was read counts as memory.
        read = cache(partial(_read, columns=[name for name in schema.names if name != CHECKSUM]))
        stretches = _stretches(row.place for row in wanted)
        parts = pa.concat_tables(read(shard).slice(first, count) for shard, first, count in stretches)
        # A copy: of a slice, Arrow writes what stands beside it in its shard, too.
        columns = {name: pa.concat_arrays(parts[name].chunks) for name in parts.column_names}
        columns[CHECKSUM] = pa.array(_checked(columns["audio"], wanted), pa.uint32())
        yield pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _checked(clips: Any, rows: Sequence[StoredRow]) -> list[int]:
    """The checksums of these clips, which must be those of their accounts."""
    samples, offsets = clips.values.to_numpy(), clips.offsets.to_numpy()
    for row, begin, end in zip(rows, offsets[:-1], offsets[1:], strict=True):
        if checksum(samples[begin:end]) != row.crc32:
            shard, number = row.place
            raise DatasetError(
                f"{shard}: row {number} holds other samples than were written into it: its disk may be failing. Remove "
                "that file, and run the same again: its recordings are done anew, and nothing else"
            )
    return [row.crc32 for row in rows]


def _read(path: Path, columns: Sequence[str]) -> Any:
    """These columns of a shard, or of a file of a dataset, which has the checksums, too."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all().select(columns)


def _stretches(rows: Iterable[RowPlace]) -> Iterator[tuple[Path, int, int]]:
    """Rows that follow each other in a shard, as (shard, first, number)."""
    stretch: list[int] = []
    shard: Path | None = None
    for path, row in rows:
        if shard is not None and (path != shard or row != stretch[-1] + 1):
            yield shard, stretch[0], len(stretch)
            stretch = []
        shard = path
        stretch.append(row)
    if shard is not None:
        yield shard, stretch[0], len(stretch)


def _write_state(folder: Path, files: Sequence[str], digest: str, split: str) -> None:
    """The two JSON files of a split that `Dataset.save_to_disk` would write."""
    from datasets import DatasetInfo

    DatasetInfo(features=dataset_features()).write_to_directory(str(folder))
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in files],
        "_fingerprint": digest[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")


class RowWriter:
    """Writes rows to an Arrow stream file as they come, a batch of at most `BATCH_ROWS` at a time.

    Samples go from numpy to Arrow without becoming Python numbers. Without a row there is no file.
    """

    def __init__(self, path: Path, schema: Any) -> None:
        self.num_rows = 0
        self._path = path
        self._schema = schema
        self._rows: list[Mapping[str, Any]] = []
        self._open = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        with self._open:
            if kind is None:
                self._flush()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row: a value for each column."""
        self.num_rows += 1
        self._rows.append(row)
        if len(self._rows) >= BATCH_ROWS or sum(row["num_samples"] for row in self._rows) >= BATCH_SAMPLES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        if self._writer is None:
            sink = self._open.enter_context(pa.OSFile(str(self._path), "wb"))
            self._writer = self._open.enter_context(pa.ipc.new_stream(sink, self._schema))
        self._writer.write_batch(_to_batch(self._rows, self._schema))
        self._rows = []


def _to_batch(rows: Sequence[Mapping[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    samples = [row["audio"] for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in samples])]).astype(np.int64)
    audio = pa.LargeListArray.from_arrays(_numbers(offsets), _numbers(np.concatenate(samples)))
    num_samples = _numbers(np.array([row["num_samples"] for row in rows], dtype=np.int32))
    columns = {"audio": audio, "num_samples": num_samples}
    columns |= {name: _texts([row[name] for row in rows]) for name in schema.names if name not in columns}
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _numbers(values: np.ndarray) -> Any:
    """An Arrow array over these values. pa.array() would import pandas: as much time as a worker's start."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _texts(values: Sequence[str | None]) -> Any:
    """An Arrow array of strings, without pandas."""
    from pyarrow.lib import StringBuilder

    builder = StringBuilder()
    builder.append_values(values)
    return builder.finish()
