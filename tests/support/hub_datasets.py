"""Audio datasets as they lie on the hub, parquet files and a card; and what became of one that was fetched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.hub_double import HubDouble

CARD = "---\nlicense: cc-by-4.0\n---\n# Speech\n"


def write_parquet(
    path: Path, rows: Sequence[dict[str, Any]], *, row_group_size: int = 1_000, as_audio: Sequence[str] = ("audio",)
) -> Path:
    """A parquet file as `datasets` writes it; columns not in `as_audio` are what they look like."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Audio, Features

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows))
    if as_audio:
        features = Features.from_arrow_schema(table.schema)
        features.update({name: Audio(sampling_rate=16_000) for name in as_audio})
        table = pa.Table.from_pylist(list(rows), schema=features.arrow_schema)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def put_speech(hub: HubDouble, rows: Sequence[dict[str, Any]], name: str = "org/speech") -> Path:
    """A dataset of a train split of two files, and of a test split; returns its folder."""
    folder = hub.folder(name)
    half = len(rows) // 2
    write_parquet(folder / "data" / "train-00000-of-00002.parquet", rows[: half - 4], row_group_size=2)
    write_parquet(folder / "data" / "train-00001-of-00002.parquet", rows[half - 4 : -8], row_group_size=2)
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", rows[-8:])
    (folder / "README.md").write_text(CARD)
    return folder


def lines_of(manifest: Path) -> list[dict[str, Any]]:
    """The lines of a manifest."""
    return [json.loads(line) for line in manifest.open(encoding="utf-8")]


def contents(manifest: Path) -> list[bytes]:
    """The recordings of a manifest, as they are."""
    return [(manifest.parent / line["audio_filepath"]).read_bytes() for line in lines_of(manifest)]
