"""`prepare` in a process of its own, as a user runs it, and what that takes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from runyoro_ssl.config import Config
from runyoro_ssl.processes import signals_held

LOOK_EVERY_SEC = 0.2


@dataclass(frozen=True)
class Usage:
    """What one preparation used, with all its processes. Bytes are the most resident, of five looks a second."""

    seconds: float
    core_seconds: float
    main_bytes: int
    worker_bytes: int
    """Of the largest process but the main one."""

    @property
    def peak_bytes(self) -> int:
        """Memory of the largest process."""
        return max(self.main_bytes, self.worker_bytes)


def prepare_config(
    folder: Path, manifest: Path, output_dir: Path, *, segment: str = "vad", num_workers: int = 1
) -> Config:
    """Settings of a preparation; the feature extractor is in `folder`. Copies are wanted here: no duplicates filter."""
    from runyoro_ssl.resolve import load_config

    return load_config(
        flags={
            "hardware": {"num_workers": num_workers},
            "model": {"model_name_or_path": str(folder / "model")},
            "prepare": {
                "manifest_path": manifest,
                "output_dir": output_dir,
                "segment": segment,
                "validation_share": 0.1,
            },
            "plugins": {"filters": ["duration", "silence", "clipping"]},
        }
    )


def prepare_watched(config: Config) -> Usage:
    """Prepare anew.

    Raises:
        RuntimeError: It failed; its own words are on stderr.
    """
    remove_prepared(config.prepare.output_dir)
    core_before, start = core_seconds_of_children(), time.perf_counter()
    process = multiprocessing.get_context("spawn").Process(target=_prepare, args=(config,))
    with signals_held([signal.SIGINT]):  # to which it would answer with a traceback
        process.start()
    try:
        main_bytes, worker_bytes = _watch(process)
    finally:
        _end(process)
    seconds = time.perf_counter() - start
    if process.exitcode:
        raise RuntimeError(f"prepare of {config.prepare.manifest_path} ended with status {process.exitcode}")
    return Usage(seconds, core_seconds_of_children() - core_before, main_bytes, worker_bytes)


def remove_prepared(output_dir: Path) -> None:
    """A dataset and the shards beside it."""
    for made in (output_dir, output_dir.with_name(f"{output_dir.name}.shards")):
        shutil.rmtree(made, ignore_errors=True)


def core_seconds_of_children() -> float:
    """Processor time of children that have ended, and of theirs."""
    return sum(os.times()[2:4])


def _watch(process: Any) -> tuple[int, int]:
    """Watch a process until it ends: the most bytes resident in it, and in the largest of its workers."""
    main = psutil.Process(process.pid)
    main_bytes = worker_bytes = 0
    while process.is_alive():
        main_bytes = max(main_bytes, _resident(main))
        worker_bytes = max([worker_bytes, *map(_resident, _workers(main))])
        process.join(LOOK_EVERY_SEC)
    return main_bytes, worker_bytes


def _end(process: Any) -> None:
    """End a process and its workers, if it has not ended: multiprocessing would wait for it, and what it uses goes."""
    if process.is_alive():
        for worker in _workers(psutil.Process(process.pid)):
            worker.kill()
        process.kill()
        process.join()


def _workers(main: psutil.Process) -> list[psutil.Process]:
    try:
        return main.children(recursive=True)
    except psutil.Error:  # it has just ended
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0


def _prepare(config: Config) -> None:
    """Runs in the process that is watched; the bars and log lines on the screen are the watcher's."""
    from runyoro_ssl import logs
    from runyoro_ssl.plugin.manager import load_plugins
    from runyoro_ssl.prepare.pipeline import prepare

    logs.configure()
    logs.console.quiet = True
    prepare(config, load_plugins(config))
