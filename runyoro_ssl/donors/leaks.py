"""Whether a pool holds speech of the target: by the samples of its clips, and by their sound, whatever it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from runyoro_ssl.bars import progress
from runyoro_ssl.builtins.duplicates.filter import find_copies
from runyoro_ssl.builtins.duplicates.landmarks import PEAK, peaks
from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.donors.pools import Pool, checksums
from runyoro_ssl.errors import DatasetError, DonorsError

BLOCK_CLIPS = 1 << 12
"""Of a pool, that are compared at a time with all of the target: five hours, about."""
MIN_OVERLAP = 0.7
"""Of the shorter of two clips, that both have: a jingle in both is no leak."""


def refuse_leaks(target: Pool, pools: Sequence[Pool], sampling_rate: int) -> None:
    """Refuse pools that hold clips of the target, of either split: what is held out must stay so.

    Raises:
        DonorsError: Names the pool, how many clips, and one.
    """
    for pool in pools:
        if found := _same_samples(target, pool):
            raise DonorsError(_refusal(pool, target, found, "have the same samples"))
    with progress("clips") as bar:
        task = bar.add_task("Comparing", total=sum(len(split) for one in (target, *pools) for split in _splits(one)))
        known = [_peaks(target, split, sampling_rate, lambda: bar.advance(task)) for split in _splits(target)]
        known_ids = [name for split in _splits(target) for name in split.data.column("id").to_pylist()]
        landmarks = [one for part in known for one in part]
        for pool in pools:
            found = []
            for split in _splits(pool):
                ids = split.data.column("id").to_pylist()
                for start in range(0, len(split), BLOCK_CLIPS):
                    block = split.select(range(start, min(start + BLOCK_CLIPS, len(split))))
                    here = list(_peaks(pool, block, sampling_rate, lambda: bar.advance(task)))
                    copies = find_copies([*landmarks, *here], len(landmarks), MIN_OVERLAP)
                    found += [(ids[start + at - len(landmarks)], known_ids[of]) for at, of in copies.items()]
            if found:
                raise DonorsError(_refusal(pool, target, found, "sound the same"))


def _refusal(pool: Pool, target: Pool, found: Sequence[tuple[str, str]], how: str) -> str:
    mine, theirs = found[0]
    named = mine if mine == theirs else f"{mine} is {theirs}"
    count = f"{len(found)} of its clips" if len(found) > 1 else "1 of its clips"
    return (
        f"--pool {pool.path}: {count} and clips of the target {target.path} {how}, such as {named}; take them out of "
        "its manifest and prepare it again: what is held out must not be learned"
    )


def _splits(pool: Pool) -> list[Any]:
    return list(pool.splits.values())


def _same_samples(target: Pool, pool: Pool) -> list[tuple[str, str]]:
    """Ids of clips of a pool and of the target that have as many samples and the same checksum."""
    known = {key: name for split in _splits(target) for key, name in _keys(split)}
    return [(name, known[key]) for split in _splits(pool) for key, name in _keys(split) if key in known]


def _keys(split: Any) -> Iterator[tuple[tuple[int, int], str]]:
    lengths = split.data.column("num_samples").to_pylist()
    both = zip(lengths, checksums(split).tolist(), strict=True)
    yield from zip(both, split.data.column("id").to_pylist(), strict=True)


def _peaks(pool: Pool, split: Any, sampling_rate: int, on_clip: Callable[[], object]) -> Iterator[np.ndarray]:
    """The spectral peaks of clips. The first to read all of them, this says whose a damage is."""
    try:
        clips = Clips(split)
        for row in range(len(clips)):
            yield np.asarray(peaks(clips.waveform(row), sampling_rate), PEAK)
            on_clip()
    except DatasetError as error:
        raise DatasetError(f"{pool.path}: {error}; run `invoke prepare --overwrite`") from None
