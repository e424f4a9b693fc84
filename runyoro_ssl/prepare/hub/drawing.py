"""The order in which a dataset is streamed: what can be read by itself, by lot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np

FILES_AT_ONCE = 16
"""Of so many files the places of their row groups are asked for: of a thousand it would take minutes."""
PATHS_AT_ONCE = 100_000
"""Rows of a folder of recordings are names: so many are shuffled in memory."""


def draw_parts(builder: Any, streams: Sequence[Any], seed: int) -> Iterator[Any]:
    """The rows of a dataset in parts, by lot: row groups of parquet files, or files; of a folder all rows, shuffled.

    A part is what one request fetches. To draw evenly over all speakers, all of them would have to be fetched.
    """
    if _holds_names_only(builder):
        yield from (rows.shuffle(seed=seed, buffer_size=PATHS_AT_ONCE) for rows in streams)
        return
    lots = np.random.default_rng(seed)
    for some in _batches(builder, streams, lots):
        groups = [group for rows in some for group in _divide(rows.reshard())]
        yield from (groups[number] for number in lots.permutation(len(groups)))


def _batches(builder: Any, streams: Sequence[Any], lots: np.random.Generator) -> Iterator[Sequence[Any]]:
    """The rows of a few files at a time, by lot."""
    if not builder.config.data_files:  # offline, from a cache
        yield streams
        return
    files = [(split, file) for split, files in builder.config.data_files.items() for file in files]
    order = lots.permutation(len(files))
    for start in range(0, len(files), FILES_AT_ONCE):
        some: defaultdict[str, list[str]] = defaultdict(list)
        for number in order[start : start + FILES_AT_ONCE]:
            some[files[number][0]].append(files[number][1])
        part = copy(builder)
        part.config = copy(builder.config)
        part.config.data_files = dict(some)
        yield list(part.as_streaming_dataset().values())


def _divide(rows: Any) -> list[Any]:
    return [rows.shard(rows.num_shards, number) for number in range(rows.num_shards)]


def _holds_names_only(builder: Any) -> bool:
    """Whether its rows are names of files, and no audio."""
    from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder

    return isinstance(builder, FolderBasedBuilder)
