"""What the clips of a dataset are, told without their samples: a checksum of each, and one digest of all."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runyoro_ssl.dataset.layout import CHECKSUM, FINGERPRINT


class ClipContent(NamedTuple):
    """A clip as the digest sees it."""

    split: str
    id: str
    num_samples: int
    crc32: int


def checksum(samples: np.ndarray) -> int:
    """CRC-32 of the samples of a clip, int16 (T,), as they are stored."""
    return zlib.crc32(np.ascontiguousarray(samples).data)


def content_digest(clips: Iterable[ClipContent]) -> str:
    """SHA-256 over every clip and its split: the same data, the same digest."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"{clip.split}\0{clip.id}\0{clip.num_samples}\0{clip.crc32}\n".encode())
    return digest.hexdigest()


def has_checksums(splits: Any) -> bool:
    """Whether a DatasetDict tells the checksum of each clip; one that a version before 0.3 made does not."""
    return all(CHECKSUM in split.column_names for split in splits.values())


def stored_content(splits: Any) -> Iterator[ClipContent]:
    """What the columns of a DatasetDict with checksums say of each clip, without a look at its samples."""
    for name, split in splits.items():
        columns = (split.data.column(column).to_pylist() for column in ("id", "num_samples", CHECKSUM))
        for of_clip in zip(*columns, strict=True):
            yield ClipContent(name, *of_clip)


class FileContents:
    """What the files of a split held when this was made: to tell whether those of their names hold it still."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = {path: _describe(path) for path in files}
        self._sizes = {path: path.stat().st_size for path in self._files}
        self._digest = _digest_beside(files)

    def shrunk(self) -> str | None:
        """A file that is shorter now, in words, if there is any. One that was removed stays open, and is not."""
        for path, size in self._sizes.items():
            now = path.stat().st_size if path.exists() else size
            if now < size:
                return f"{path} is {size - now} bytes shorter than it was"
        return None

    def changed(self) -> str | None:
        """Why a process that opens these files now would read other clips, in words; None if it would not."""
        for path, held in self._files.items():
            try:
                if _describe(path) != held:
                    return f"{path}: it holds other clips than it did"
            except FileNotFoundError:
                return f"{path}: it is gone"
            except Exception as error:  # noqa: BLE001 - Arrow raises a dozen types for a damaged file
                return f"{path}: it cannot be read any more ({type(error).__name__}: {str(error)[:120]})"
        if _digest_beside(list(self._files)) != self._digest:
            return f"{_dataset_of(next(iter(self._files)))}: its {FINGERPRINT} tells of other clips than it did"
        return None


def _describe(path: Path) -> bytes:
    """The lengths and checksums of the clips of an Arrow file, in order, as a digest."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_stream(source).read_all()
        columns = [table.column(name) for name in ("num_samples", CHECKSUM) if name in table.column_names]
        return hashlib.sha256(b"".join(column.to_numpy().tobytes() for column in columns)).digest()


def _dataset_of(file: Path) -> Path:
    """The folder of the dataset that a file of a split is of."""
    return file.parent.parent


def _digest_beside(files: Sequence[Path]) -> object:
    """What the fingerprint of the dataset of these files says of its content; None where there is none."""
    if not files:
        return None
    try:
        return json.loads((_dataset_of(files[0]) / FINGERPRINT).read_text(encoding="utf-8"))["content_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
