"""Decoding processes: results in order, and a death that is named."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.errors import AudioError
from runyoro_ssl.prepare.clips import ClipMaker, make_shard
from runyoro_ssl.prepare.dataset import dataset_features
from runyoro_ssl.prepare.manifest import ManifestEntry
from runyoro_ssl.prepare.workers import decoding_pool, run_ordered


def double(number: int) -> int:
    """Runs in a worker."""
    return 2 * number


def die_at_seven(number: int) -> int:
    """Runs in a worker, which a crash in a decoder would end like this."""
    if number == 7:
        os._exit(1)
    return number


def heavy_modules_after_a_shard(folder: Path, schema: Any) -> tuple[int, set[str]]:
    """Runs in a worker: makes a shard of `folder/a.wav`. Returns clips and the libraries it took."""
    maker = ClipMaker(folder, 16_000, 15.0, ())
    _, clips = make_shard(maker, schema, (folder / "a.arrow", [ManifestEntry(audio_filepath="a.wav", duration=1.0)]))
    return len(clips), {"torch", "transformers", "datasets", "pandas"} & set(sys.modules)


def test_workers_start_light(tmp_path: Path) -> None:
    """Each of these libraries would take longer to import than a minute of audio takes to prepare."""
    sf.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    with decoding_pool(1) as pool:
        found = pool.submit(heavy_modules_after_a_shard, tmp_path, dataset_features().arrow_schema).result()
    assert found == (1, set())


def test_results_keep_the_order_of_the_items() -> None:
    """More items than are ever in flight, two workers."""
    with decoding_pool(2) as pool:
        assert list(run_ordered(pool, double, range(50))) == [2 * number for number in range(50)]


def test_death_of_a_worker_names_the_item() -> None:
    """One line with the item that had no result, never a BrokenProcessPool."""
    with decoding_pool(1) as pool, pytest.raises(AudioError, match=r"process died: at or soon after item [0-7]: take"):
        list(run_ordered(pool, die_at_seven, range(50), describe=lambda number: f"item {number}"))
