"""Files that end, stop or outgrow the process that works on them: they are named, and nothing else is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runyoro_ssl.audio.synth import SAMPLE_RATE, make_lexicon, make_voices, synthesise
from runyoro_ssl.errors import AudioError, DatasetError
from runyoro_ssl.prepare.clips.filtering import ClipFilters
from runyoro_ssl.prepare.clips.make import ClipMaker
from runyoro_ssl.prepare.clips.segment import PauseSettings
from runyoro_ssl.prepare.manifest import ManifestEntry
from support.preparation import Preparation, write_mixed_corpus

TRAPS = """
import os, signal, time
import numpy as np
from runyoro_ssl import hookimpl

class Traps:
    def __call__(self, utterance):
        match utterance.source[:3]:
            case "000": os.abort()
            case "001": time.sleep(60)
            case "002": np.zeros(1 << 50)
            case "003": os.kill(os.getpid(), signal.SIGKILL)

class Slow:
    def __call__(self, utterance):
        time.sleep(1.0 if utterance.source[:3] == "001" else 0.0)

@hookimpl
def runyoro_manifest_filters(register):
    register("traps", Traps)
    register("slow", Slow)
"""
"""Filters that do what decoders have been seen to do."""
ENDED = """
from concurrent.futures import Executor, Future
from runyoro_ssl import hookimpl
from runyoro_ssl.disk.temporary import TEMPORARY
from runyoro_ssl.errors import DatasetError

class Ended(Executor):
    def __init__(self, folder):
        (folder / "executor.log").write_text("a file of its own")
        (folder / "executor.log").unlink()
        self.store = folder.parent

    def submit(self, fn, /, *args, **kwargs):
        (shards,) = self.store.glob(16 * "[0-9a-f]")
        (shards / f"{TEMPORARY}host-1-shard.arrow").write_bytes(b"half")
        future = Future()
        future.set_exception(DatasetError("the disk is full"))
        return future

class Open:
    def __call__(self, where, num_workers, folder):
        return Ended(folder)

@hookimpl
def runyoro_executors(register):
    register("ended", Open)
"""
"""An executor whose worker is ended in the middle of a shard, because another found the disk full."""
THREADS = """
from concurrent.futures import ThreadPoolExecutor
from runyoro_ssl import hookimpl

class Threads:
    def __call__(self, where, num_workers, folder):
        return ThreadPoolExecutor(num_workers)

@hookimpl
def runyoro_executors(register):
    register("threads", Threads)
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder with them."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "runyoro_traps.py").write_text(TRAPS)
    (tmp_path / "plugins" / "runyoro_threads.py").write_text(THREADS)
    (tmp_path / "plugins" / "runyoro_ended.py").write_text(ENDED)
    return tmp_path / "plugins"


@pytest.fixture
def preparation(tiny_model: Path, tmp_path: Path) -> Preparation:
    """Of 9 recordings."""
    (tmp_path / "out").mkdir()
    return Preparation(write_mixed_corpus(tmp_path / "corpus", num_clips=9, num_long=0), tiny_model, tmp_path / "out")


def test_each_costs_itself(preparation: Preparation, plugins: Path) -> None:
    """A crash, a standstill, too much memory, the system's killer: four files with their reasons, five kept."""
    settings = (f"plugins.dir={plugins}", 'plugins.filters=["traps"]', "prepare.time_limit_sec=1")
    report = preparation.here(*settings)
    dropped = [json.loads(line) for line in (preparation.dataset / "dropped.jsonl").read_text().splitlines()]
    assert {drop["source"][:3]: (drop["reason"], drop["detail"].rpartition(" ")[2]) for drop in dropped} == {
        "000": ("process crashed", "SIGABRT"),
        "001": ("time limit", "filter"),
        "002": ("out of memory", "stated"),
        "003": ("process crashed", "sends"),
    }
    samples = report["samples"]
    assert samples["in"] == samples["kept"] + sum(samples["dropped"].values())
    assert (report["lines_in"], report["clips_kept"]) == (9, 5)


def test_shard_of_a_worker_that_is_ended_goes(preparation: Preparation, plugins: Path) -> None:
    """What it wrote would fill the disk further."""
    with pytest.raises(DatasetError, match="the disk is full"):
        preparation.here(f"plugins.dir={plugins}", "prepare.executor=ended")
    assert preparation.leftovers() == []


def test_threads_of_the_main_process_are_not_watched(preparation: Preparation, plugins: Path) -> None:
    """What takes long there takes long; the watch would end the whole preparation."""
    settings = [f"plugins.dir={plugins}", 'plugins.filters=["slow"]', "prepare.executor=threads"]
    settings.append("prepare.time_limit_sec=0.3")
    done = preparation.run(*(word for setting in settings for word in ("--set", setting)))
    assert done.returncode == 0, done.stderr
    report = json.loads((preparation.dataset / "prepare_report.json").read_text())
    assert report["clips_kept"] == 9


@pytest.mark.parametrize("blocks_left", [0, 20])
@pytest.mark.parametrize("error", [AudioError("missing file"), None])
def test_recording_that_changes_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocks_left: int, error: AudioError | None
) -> None:
    """It is read twice; what has been kept of it when it is gone, or shorter, adds up with the rest."""
    rng = np.random.default_rng(0)
    (voice,), lexicon = make_voices(1, rng), make_lexicon(6, rng)
    wave = np.concatenate([synthesise([lexicon[n % 6] for n in range(40)], voice, rng)[0] for _ in range(3)])
    readings = iter([len(wave), blocks_left * SAMPLE_RATE])

    def stream(_path: Path, **_part: Any) -> Iterator[np.ndarray]:
        last = next(readings)
        for start in range(0, last, SAMPLE_RATE):
            yield wave[start : start + SAMPLE_RATE]
        if last < len(wave) and error:
            raise error

    monkeypatch.setattr("runyoro_ssl.prepare.clips.make.stream", stream)
    pauses = PauseSettings(1.0, 10.0, 0.5, 0.15, 1.0)
    maker = ClipMaker(tmp_path, SAMPLE_RATE, "vad", pauses, ClipFilters(), 60.0, 3600.0)
    rows: list[dict[str, Any]] = []
    account = maker.make("key", ManifestEntry(audio_filepath="a.wav", duration=len(wave) / SAMPLE_RATE), rows.append)
    assert account.samples_in == account.samples_kept + sum(drop.num_samples for drop in account.drops) == len(wave)
    assert bool(account.clips) == (blocks_left > 0)
    assert sum(row["num_samples"] for row in rows) == account.samples_kept
    assert account.drops[-1].reason == ("missing file" if error else "changed while it was read")
