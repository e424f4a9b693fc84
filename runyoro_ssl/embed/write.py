"""Features and units as files that other programs read: .npz, .parquet, .csv, TextGrid."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy

from runyoro_ssl.disk.durable import replacing
from runyoro_ssl.disk.ours import refuse_foreign
from runyoro_ssl.embed.units import UnitSpan
from runyoro_ssl.errors import EmbedError

NPZ, PARQUET, CSV = ".npz", ".parquet", ".csv"
TIER = "units"
UNIT_COLUMNS = ("file", "start_sec", "end_sec", "unit")


class Sink(Protocol):
    """Where features go, recording by recording, window by window."""

    def begin(self, name: str, times_sec: np.ndarray, shape: tuple[int, ...]) -> None:
        """A recording comes: the middle of each frame, float64 (F,), and the shape of all its features."""

    def add(self, features: np.ndarray) -> None:
        """Its next frames. float32 (f, L, H)."""

    def end(self) -> None:
        """It is whole."""


class NpzSink:
    """`NAME/times` float64 (F,), `NAME/features` float32 (F, H), or (F, L, H) of several layers; and `layers`."""

    def __init__(self, path: Path, layers: Sequence[int]) -> None:
        self._zip = zipfile.ZipFile(path, "w", allowZip64=True)
        self._several = len(layers) > 1
        self._file: IO[bytes] | None = None
        self._put("layers", np.array(layers))

    def _put(self, name: str, values: np.ndarray) -> None:
        with self._zip.open(f"{name}.npy", "w", force_zip64=True) as file:
            npy.write_array(file, values, allow_pickle=False)

    def begin(self, name: str, times_sec: np.ndarray, shape: tuple[int, ...]) -> None:
        """Write the times, and begin the features, whose end need not be in memory."""
        self._put(f"{name}/times", times_sec)
        self._file = self._zip.open(f"{name}/features.npy", "w", force_zip64=True)
        whole = shape if self._several else (shape[0], shape[2])
        header = {"descr": npy.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": whole}
        npy.write_array_header_2_0(self._file, header)

    def add(self, features: np.ndarray) -> None:
        """Append frames."""
        assert self._file is not None  # noqa: S101 - after `begin`
        self._file.write(np.ascontiguousarray(features, np.dtype("<f4")).tobytes())

    def end(self) -> None:
        """Close the recording."""
        assert self._file is not None  # noqa: S101 - after `begin`
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()


class ParquetSink:
    """A row for each frame and layer: `file`, `time_sec`, `layer`, and `features` as a list of float32."""

    def __init__(self, path: Path, layers: Sequence[int], hidden_size: int) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._layers, self._hidden_size = layers, hidden_size
        fields = [("file", pa.string()), ("time_sec", pa.float64()), ("layer", pa.int16())]
        self._schema = pa.schema([*fields, ("features", pa.list_(pa.float32(), hidden_size))])
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._name, self._times, self._at = "", np.zeros(0), 0

    def begin(self, name: str, times_sec: np.ndarray, shape: tuple[int, ...]) -> None:  # noqa: ARG002 - as every sink
        """Begin a recording."""
        self._name, self._times, self._at = name, times_sec, 0

    def add(self, features: np.ndarray) -> None:
        """Write frames as a group of rows."""
        import pyarrow as pa

        num_frames, num_layers, _ = features.shape
        times = self._times[self._at : self._at + num_frames]
        self._at += num_frames
        flat = pa.array(np.ascontiguousarray(features, np.float32).reshape(-1))
        columns = {
            "file": pa.array([self._name] * (num_frames * num_layers)),
            "time_sec": pa.array(np.repeat(times, num_layers)),
            "layer": pa.array(np.tile(np.array(self._layers, np.int16), num_frames)),
            "features": pa.FixedSizeListArray.from_arrays(flat, self._hidden_size),
        }
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def end(self) -> None:
        """Nothing is left to write."""

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


@contextmanager
def opened(path: Path, layers: Sequence[int], hidden_size: int) -> Iterator[Sink | None]:
    """The sink for a file, by its ending; it appears whole or not at all. None for `.csv`, which takes no features."""
    if path.suffix == CSV:
        yield None
        return
    with replacing(path) as temporary:
        sink = NpzSink(temporary, layers) if path.suffix == NPZ else ParquetSink(temporary, layers, hidden_size)
        try:
            yield sink
        finally:
            sink.close()


def write_csv(path: Path, by_name: Mapping[str, Sequence[UnitSpan]]) -> None:
    """Write units as `file,start_sec,end_sec,unit`."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows: Any = csv.writer(file)
        rows.writerow(UNIT_COLUMNS)
        for name, found in by_name.items():
            rows.writerows((name, f"{one.start_sec:.3f}", f"{one.end_sec:.3f}", one.unit) for one in found)


def write_text_grid(path: Path, found: Sequence[UnitSpan]) -> None:
    """Write the units of a recording as the tier `units` of a TextGrid, for Praat and ELAN."""
    from praatio import textgrid

    grid = textgrid.Textgrid()
    entries = [(one.start_sec, one.end_sec, str(one.unit)) for one in found]
    grid.addTier(textgrid.IntervalTier(TIER, entries, 0, found[-1].end_sec))
    with replacing(path) as temporary:
        grid.save(str(temporary), format="long_textgrid", includeBlankSpaces=True)


def is_written_here(path: Path) -> bool:
    """Whether a file is one of these, by what it holds."""
    if path.suffix == NPZ:
        with np.load(path, allow_pickle=False) as found:
            return "layers" in found or {"centres", "layer"} <= set(found)
    if path.suffix == PARQUET:
        from pyarrow import parquet

        return {"file", "time_sec", "layer", "features"} <= set(parquet.read_schema(path).names)
    with path.open(encoding="utf-8") as file:
        return tuple(file.readline().strip().split(",")) == UNIT_COLUMNS


def check_new(*paths: Path, overwrite: bool) -> None:
    """Raise EmbedError if one of these is there and must not be replaced, or has no folder to be in."""
    for path in paths:
        if path.exists() and not overwrite:
            raise EmbedError(f"{path} is there; give another --output, or --overwrite")
        if not path.parent.is_dir():
            raise EmbedError(f"{path}: there is no folder {path.parent}; make it, or give another --output")
        if path.is_dir() and path.suffix in (NPZ, PARQUET, CSV):
            raise EmbedError(f"{path} is a folder; give another --output")
        if not path.is_dir():
            refuse_foreign(path, is_written_here, "what embed writes", "--output")
