"""Work in other processes: results in order, and a death that costs the item that caused it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.builtins.executors.processes import ProcessExecutor
from runyoro_ssl.config import PrepareConfig
from runyoro_ssl.dataset.layout import shard_features
from runyoro_ssl.errors import PluginError
from runyoro_ssl.prepare.clips.filtering import ClipFilters
from runyoro_ssl.prepare.clips.make import ClipMaker
from runyoro_ssl.prepare.clips.segment import PauseSettings
from runyoro_ssl.prepare.manifest import ManifestEntry
from runyoro_ssl.prepare.shards.shard import Line, MakeShard, Shard
from runyoro_ssl.prepare.workers import opened, run, run_ordered, still_alive, why_lost

pytestmark = pytest.mark.usefixtures("fresh_workers")


def double(number: int) -> int:
    """Runs in a worker."""
    return 2 * number


def die_at_seven(number: int) -> int:
    """Runs in a worker, which a crash in a decoder would end like this."""
    if number == 7:
        os.abort()
    return number


def hang_at_three(number: int) -> int:
    """Runs in a worker; sleeps like a decoder that loops, after saying when to give it up."""
    if number == 3:
        still_alive(0.3)
        time.sleep(60)
    return number


def complain(_number: int) -> int:
    """Runs in a worker."""
    raise PluginError("mend it")


def stumble(_number: int) -> int:
    """Runs in a worker."""
    raise LookupError("a bug")


def maker(folder: Path) -> ClipMaker:
    """A clip maker without filters."""
    config = PrepareConfig()
    pauses = PauseSettings(2.0, 15.0, config.vad_threshold, config.speech_pad_sec, config.max_pause_sec)
    return ClipMaker(folder, 16_000, "vad", pauses, ClipFilters(), 60.0, 86_400.0)


def heavy_modules_after(make: MakeShard) -> set[str]:
    """Runs in a worker: makes a shard of `a.wav`. Returns the libraries it took."""
    make(Shard((Line("a", "a", ManifestEntry(audio_filepath="a.wav", duration=1.0)),)))
    return {"torch", "transformers", "datasets", "pandas", "silero_vad", "av"} & set(sys.modules)


def test_workers_start_light(tmp_path: Path) -> None:
    """Each of these libraries would take longer to import than a minute of audio takes to prepare."""
    sf.write(tmp_path / "a.wav", np.full(16_000, 0.1), 16_000)
    make = MakeShard(maker(tmp_path), shard_features().arrow_schema, tmp_path)
    with opened(ProcessExecutor(1)) as executor:
        (done,) = run(executor, heavy_modules_after, [make], in_flight=1)
    assert done.result == set()
    assert len(list(tmp_path.glob("*.arrow"))) == 1


def test_results_keep_the_order_of_the_items() -> None:
    """More items than are ever in flight, two workers."""
    with opened(ProcessExecutor(2)) as executor:
        results = [done.result for done in run_ordered(executor, double, range(50), in_flight=8)]
    assert results == [2 * number for number in range(50)]


def test_death_of_a_worker_costs_its_item_alone() -> None:
    """Every other item has its result; the dead one is told."""
    with opened(ProcessExecutor(2)) as executor:
        done = {one.item: one for one in run(executor, die_at_seven, range(20), in_flight=8)}
    assert [number for number in range(20) if done[number].result != number] == [7]
    assert why_lost(done[7], 60).reason == "process crashed"


def test_standstill_ends_at_the_limit() -> None:
    """What hangs is ended by its own process, and told from a crash by the time it took."""
    started = time.monotonic()
    with opened(ProcessExecutor(1)) as executor:
        done = {one.item: one for one in run(executor, hang_at_three, range(6), in_flight=2)}
    assert time.monotonic() - started < 20
    assert [number for number in range(6) if done[number].result != number] == [3]
    assert why_lost(done[3], 0.3).reason == "time limit"


@pytest.mark.parametrize(("function", "kind"), [(complain, PluginError), (stumble, RuntimeError)])
def test_what_the_work_raises_is_raised_here(function: Any, kind: type[Exception]) -> None:
    """A mendable error as it is, a bug with its traceback: neither is taken for a death."""
    with opened(ProcessExecutor(1)) as executor, pytest.raises(kind, match=r"mend it|a bug"):
        list(run(executor, function, [1], in_flight=1))
