"""Read a prepared dataset: its fingerprint, its splits, and their clips straight from memory-mapped Arrow files."""

from __future__ import annotations

import errno
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np

from runyoro_ssl.dataset.content import FileContents, checksum, content_digest, has_checksums, stored_content
from runyoro_ssl.dataset.layout import CHECKSUM, CLIPS, FINGERPRINT, FORMAT
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.errors import DatasetError
from runyoro_ssl.redaction import shortly
from runyoro_ssl.small_files import read_small

STEP = 1 / 32768
"""Of int16 in [-1, 1]: a power of two, so that scaling is exact."""
LONGEST_SEC = 1e6
"""No limit of clips is longer."""
LONG_SAMPLES = 1 << 20
"""Samples, a minute: a longer clip is read in windows, and held against its checksum once in a process, for all."""


def read_fingerprint(dataset_dir: Path) -> dict[str, Any]:
    """Read what a dataset was made from, and how.

    Raises:
        DatasetError: Not a folder that `invoke prepare` finished.
    """
    path = dataset_dir / FINGERPRINT
    remedy = f"make it with `invoke prepare --output-dir {dataset_dir}`"
    if not dataset_dir.is_dir():
        raise DatasetError(f"{dataset_dir}: no such dataset; {remedy}")
    try:
        fingerprint = json.loads(read_small(path))
    except FileNotFoundError:
        raise DatasetError(
            f"{dataset_dir}: not a prepared dataset (no {FINGERPRINT}); give the folder that `invoke prepare` wrote"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged ({error}); {remedy} --overwrite") from None
    except OSError as error:
        raise DatasetError(_why_not_opened(path, error)) from None
    version = fingerprint.get("format") if isinstance(fingerprint, dict) else None
    if type(version) is int and version > FORMAT:
        raise DatasetError(
            f"{path}: format {version}, of a newer version of runyoro_ssl; this one reads {FORMAT}: take that version, "
            "or prepare the recordings anew into another --output-dir"
        )
    if version != FORMAT:
        raise DatasetError(f"{path}: format {shortly(version)}, this version reads {FORMAT}; {remedy} --overwrite")
    if problem := _find_nonsense(fingerprint):
        raise DatasetError(f"{path}: {problem}; {remedy} --overwrite")
    return fingerprint  # type: ignore[no-any-return]


def _find_nonsense(fingerprint: Mapping[str, Any]) -> str | None:
    """What in a fingerprint cannot be, in words; what a newer version adds is not looked at."""
    for name in ("sha256", "content_sha256"):
        if not isinstance(fingerprint.get(name), str):
            return f"{name} is {shortly(fingerprint.get(name))}, expected the digits of a hash"
    rate = fingerprint.get("sampling_rate")
    if type(rate) is not int or rate <= 0:
        return f"sampling_rate is {shortly(rate)}, expected Hz"
    settings = fingerprint.get("settings", {})
    longest = settings.get("max_duration_sec", 1.0) if isinstance(settings, dict) else settings
    if type(longest) not in (int, float) or not 0 < longest < LONGEST_SEC:
        return f"settings.max_duration_sec is {shortly(longest)}, expected seconds"
    splits = fingerprint.get("splits")
    if not isinstance(splits, dict) or not splits:
        return f"splits is {shortly(splits)}, expected an object for each split"
    for name, split in splits.items():
        clips = split.get("clips") if isinstance(split, dict) else None
        if type(clips) is not int or clips < 0:
            return f"splits.{name} is {shortly(split)}, expected its number of clips"
    return None


def _why_not_opened(path: Path, error: Exception) -> str:
    """Why a dataset cannot be opened, and what to do: want of memory and of rights are no damage."""
    said = f"{type(error).__name__}: {str(error)[:120]}"
    if is_out_of_memory(error):
        return f"{path}: memory is short of opening it ({said}); close what else takes memory, or raise `ulimit -v`"
    if isinstance(error, PermissionError):
        return f"{path}: it may not be read ({said}); give yourself the right to"
    if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE):
        return f"{path}: it could not be read ({said}); see to the disk or share that it is on"
    return f"{path}: damaged ({said}); run `invoke prepare --overwrite`"


def load_splits(dataset_dir: Path, *, sampling_rate: int) -> Any:
    """Open the DatasetDict, memory-mapped, after checking that it suits a model of this sampling rate (Hz).

    Raises:
        DatasetError: Missing, damaged, incomplete, empty, or prepared for another rate.
    """
    from datasets import load_from_disk

    fingerprint = read_fingerprint(dataset_dir)
    if fingerprint["sampling_rate"] != sampling_rate:
        raise DatasetError(
            f"{dataset_dir}: prepared at {fingerprint['sampling_rate']} Hz, the model takes {sampling_rate} Hz; "
            "run `invoke prepare` with this model's --model-name-or-path"
        )
    try:
        splits = load_from_disk(str(dataset_dir))
    except Exception as error:  # noqa: BLE001 - Arrow and datasets raise a dozen types for a damaged folder
        raise DatasetError(_why_not_opened(dataset_dir, error)) from None
    for name, expected in fingerprint["splits"].items():
        found = len(splits[name]) if name in splits else 0
        if found == 0 or found != expected["clips"]:
            raise DatasetError(
                f"{dataset_dir}: split {name} has {found} clips, its fingerprint says {expected['clips']}; "
                "run `invoke prepare --overwrite`"
            )
    if has_checksums(splits) and content_digest(stored_content(splits)) != fingerprint["content_sha256"]:
        raise DatasetError(
            f"{dataset_dir}: its clips are not those that its {FINGERPRINT} tells of (content_sha256): files of two "
            "datasets are mixed, or one is damaged; run `invoke prepare --overwrite`"
        )
    return splits


def name_clips(dataset_dir: Path, rows: Sequence[int]) -> list[str]:
    """Names of clips of the train split, by their rows: file@second, as in `clips.jsonl`, or else the row."""
    names = {row: f"row {row} of the train split" for row in rows}
    with suppress(OSError, ValueError, KeyError, TypeError), (dataset_dir / CLIPS).open(encoding="utf-8") as file:
        for row, line in enumerate(islice(file, max(rows, default=-1) + 1)):  # clips of the train split stand first
            if row in names:
                names[row] = str(json.loads(line)["id"])
    return [names[row] for row in rows]


def read_stored(shard: Path, row: int) -> np.ndarray:
    """Read the waveform of a row of a shard, an Arrow stream file: float32 (T,) in [-1, 1], unnormalised."""
    import pyarrow as pa

    with pa.memory_map(str(shard)) as source:
        samples = pa.ipc.open_stream(source).read_all().column("audio")[row].values.to_numpy()
        return np.asarray(samples, np.float32) * np.float32(STEP)


def _files_of(split: Any) -> list[Path]:
    """The files that a split is mapped from; none, where it is in memory."""
    return [path for file in split.cache_files if (path := Path(file["filename"])).is_file()]


def row_places(split: Any) -> Iterator[tuple[Path, int]]:
    """The file that each row of a split is in, and its number there: as `dataset.write` takes them.

    Raises:
        DatasetError: It is no split as it was opened, of files.
    """
    import pyarrow as pa

    files = _files_of(split)
    lengths = [pa.ipc.open_stream(pa.memory_map(str(file))).read_all().num_rows for file in files]
    if split._indices is not None or sum(lengths) != len(split):  # noqa: SLF001 - see `Clips`
        raise DatasetError(f"its files have {sum(lengths)} clips, and {len(split)} are open; prepare it again")
    for file, length in zip(files, lengths, strict=True):
        yield from ((file, number) for number in range(length))


class Clips:
    """The waveforms of a split by row number, whatever shards and selections it is made of.

    Ten times quicker than a row in numpy format, which first gathers every sample into a new Arrow table. Only the
    pages of the clips asked for are touched. Picklable, as is the split, which a worker process maps anew.

    Where the split has checksums, a clip is held against its own whenever it is read: as it was when this was first
    made, in whatever process.

    Raises:
        DatasetError: The column `audio` does not hold int16 samples; or a clip has none, or another number than its row
            states, or others.
        IndexError: There is no such clip.
    """

    def __init__(self, split: Any, checksums: np.ndarray | None = None) -> None:
        import pyarrow as pa

        column = split.data.column("audio")
        listed = pa.types.is_large_list(column.type) or pa.types.is_list(column.type)
        if not listed or column.type.value_type != pa.int16():
            raise DatasetError(f"column audio holds {column.type}, expected lists of int16; run `invoke prepare` again")
        self._split = split
        self._contents = FileContents(_files_of(split))
        # `offsets` starts at the first row of a slice, and counts from the first sample of the unsliced `values`.
        self._shards = [(chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in column.chunks]
        self._first_rows = [0, *accumulate(len(offsets) - 1 for _, offsets in self._shards)]
        stated = "num_samples" in split.data.column_names
        self._stated = split.data.column("num_samples").to_numpy() if stated else None
        self._checksums = checksums
        self._known_long: set[int] = set()
        if checksums is None and CHECKSUM in split.data.column_names:
            self._checksums = np.array(split.data.column(CHECKSUM).to_numpy())  # a copy: the file may change
        chosen = split._indices  # noqa: SLF001 - the rows of a select(); datasets has no public name for them
        self._rows = None if chosen is None else chosen.column(0).to_numpy()

    def __len__(self) -> int:
        return len(self._split)

    def __reduce__(self) -> tuple[type[Clips], tuple[Any, np.ndarray | None]]:
        return Clips, (self._split, self._checksums)

    def num_samples(self, clip: int) -> int:
        """The length of a clip, without reading it."""
        _, begin, end = self._find(clip)
        return end - begin

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """Read a clip from sample `start`, at most `num_samples` of it: float32 (T,) in [-1, 1], unnormalised."""
        samples, begin, end = self._find(clip)
        self._check(clip, samples[begin:end])
        begin += start
        if num_samples is not None:
            end = min(end, begin + num_samples)
        waveform: np.ndarray = samples[begin:end].astype(np.float32)
        waveform *= STEP
        return waveform

    def checksum(self, clip: int) -> int:
        """CRC-32 of its int16 samples, as stated, or else from them."""
        if self._checksums is not None:
            return int(self._checksums[self._row(clip)])
        samples, begin, end = self._find(clip)
        return checksum(samples[begin:end])

    def shrunk(self) -> str | None:
        """A file of the split that is shorter than when this was made, in words, if there is any."""
        return self._contents.shrunk()

    def changed(self) -> str | None:
        """Why a process that opened the files of the split now would read other clips, in words, if it would."""
        return self._contents.changed()

    def _row(self, clip: int) -> int:
        """The row of the files that a clip is."""
        if not 0 <= clip < len(self):
            raise IndexError(f"clip {clip} of {len(self)}")
        return clip if self._rows is None else int(self._rows[clip])

    def _check(self, clip: int, samples: np.ndarray) -> None:
        """Refuse samples that are not those that the checksum is of."""
        if self._checksums is None or clip in self._known_long:
            return
        found, stated = checksum(samples), int(self._checksums[self._row(clip)])
        if found != stated:
            crcs = f"CRC-32 {found:08x}, was {stated:08x}"
            raise DatasetError(f"damaged dataset: row {clip} holds other samples than were written ({crcs})")
        if len(samples) > LONG_SAMPLES:
            self._known_long.add(clip)

    def _find(self, clip: int) -> tuple[np.ndarray, int, int]:
        """The samples of the clip's shard, and where in them the clip begins and ends."""
        row = self._row(clip)
        shard = bisect_right(self._first_rows, row) - 1
        samples, offsets = self._shards[shard]
        place = row - self._first_rows[shard]
        begin, end = int(offsets[place]), int(offsets[place + 1])
        if not 0 <= begin < end <= len(samples):
            raise DatasetError(f"damaged dataset: row {clip} is samples {begin} to {end} of {len(samples)}")
        if self._stated is not None and end - begin != self._stated[row]:
            raise DatasetError(f"damaged dataset: row {clip} has {end - begin} samples, states {self._stated[row]}")
        return samples, begin, end
