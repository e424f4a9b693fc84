"""The datasets that donors are chosen from, as arrays over all of their clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runyoro_ssl.dataset.layout import CHECKSUM, TRAIN
from runyoro_ssl.dataset.read import Clips, load_splits
from runyoro_ssl.errors import DonorsError


@dataclass(frozen=True)
class Pool:
    """A prepared dataset, its splits open."""

    path: Path
    splits: Any

    @property
    def split(self) -> Any:
        """What may be chosen: what a dataset holds out stays held out."""
        return self.splits[TRAIN]

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.path.resolve().name

    def column(self, name: str) -> list[str | None]:
        """A column of text."""
        found: list[str | None] = self.split.data.column(name).to_pylist()
        return found


@dataclass(frozen=True)
class Candidates:
    """All clips that could be chosen, pool by pool, row by row: arrays (N,), of each clip.

    `pool`, `row`: where it is. `num_samples` int64, `crc32` uint32. `language`: its number in `languages`; `speaker`,
    `recording`: numbers that no two pools share, with their names; -1 where it is not known who speaks.
    """

    pools: tuple[Pool, ...]
    pool: np.ndarray
    row: np.ndarray
    num_samples: np.ndarray
    crc32: np.ndarray
    language: np.ndarray
    languages: tuple[str, ...]
    speaker: np.ndarray
    speakers: tuple[str, ...]
    recording: np.ndarray

    def __len__(self) -> int:
        return len(self.pool)

    @property
    def voices(self) -> np.ndarray:
        """Who speaks, or else the recording, as a number: int64 (N,)."""
        return np.where(self.speaker >= 0, self.speaker, len(self.speakers) + self.recording)

    def is_first(self) -> np.ndarray:
        """Whether no earlier clip has the same samples: bool (N,)."""
        both = self.num_samples.astype(np.uint64) << np.uint64(32) | self.crc32.astype(np.uint64)
        first = np.zeros(len(self), dtype=bool)
        first[np.unique(both, return_index=True)[1]] = True
        return first


def open_pools(paths: Sequence[Path], sampling_rate: int) -> tuple[Pool, ...]:
    """Open datasets of `prepare`.

    Raises:
        DatasetError: One is none, is damaged, or of another rate.
        DonorsError: None is given, or one twice.
    """
    if not paths:
        raise DonorsError("no pool is given: --pool DATASET, once for each dataset to choose from")
    resolved = [path.resolve() for path in paths]
    for path, place in zip(paths, resolved, strict=True):
        if resolved.count(place) > 1:
            raise DonorsError(f"--pool {path} is given twice; give it once")
    pools = tuple(Pool(path, load_splits(path, sampling_rate=sampling_rate)) for path in paths)
    for pool in pools:
        if TRAIN not in pool.splits:
            raise DonorsError(f"--pool {pool.path}: it has no split {TRAIN}; prepare it again")
    return pools


def gather(pools: Sequence[Pool]) -> Candidates:
    """The training clips of all pools. One without a language is counted as of its pool."""
    languages: dict[str, int] = {}
    speakers: dict[tuple[int, str], int] = {}
    recordings: dict[tuple[int, str], int] = {}
    parts = []
    for number, pool in enumerate(pools):
        size = len(pool.split)
        of_pool = f"of {pool.name}, language not named"
        named = [languages.setdefault(one or of_pool, len(languages)) for one in pool.column("language")]
        voices = [
            -1 if one is None else speakers.setdefault((number, one), len(speakers)) for one in pool.column("speaker")
        ]
        whole = [recordings.setdefault((number, str(one)), len(recordings)) for one in pool.column("recording")]
        lengths = pool.split.data.column("num_samples").to_numpy().astype(np.int64)
        place = np.full(size, number)
        parts.append([place, np.arange(size), lengths, checksums(pool.split), *map(np.array, (named, voices, whole))])
    pool_, row, num_samples, crc32, language, speaker, recording = map(np.concatenate, zip(*parts, strict=True))
    return Candidates(
        tuple(pools),
        pool_,
        row,
        num_samples,
        crc32,
        language,
        tuple(languages),
        speaker,
        tuple(name for _, name in speakers),
        recording,
    )


def checksums(split: Any) -> np.ndarray:
    """CRC-32 of the clips of a split: uint32 (N,), as stated, or else from their samples."""
    if CHECKSUM in split.column_names:
        return np.array(split.data.column(CHECKSUM).to_numpy(), np.uint32)
    clips = Clips(split)
    return np.array([clips.checksum(row) for row in range(len(clips))], np.uint32)
