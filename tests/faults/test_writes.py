"""Killed at every write and rename of a save: what has a checkpoint's name is whole, and the next save works."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from runyoro_ssl.disk.durable import sweep
from runyoro_ssl.train.checkpoints.folder import find_newest, prune_checkpoints
from runyoro_ssl.train.checkpoints.format import write_checkpoint
from support.trainer import build_saveable, damaged

TOUCHING = (
    *("open", "write", "close", "flush", "fsync", "fcntl"),
    *("rename", "replace", "mkdir", "rmdir", "unlink", "serialize_file"),
)
"""Names of the built-in functions by which Python, and safetensors' Rust code, change a disk."""


def _in_child(work: Callable[[], None]) -> int:
    """Do something in a fork of this process. Returns its exit status; that of a signal is negative."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child must never go on as the parent
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _kill_at(number: int, event: str) -> None:
    """SIGKILL for this process at its call of this number, before ("c_call") or after it ("c_return")."""
    seen = 0

    def watch(_frame: Any, kind: str, function: Any) -> None:
        nonlocal seen
        if kind == event and function.__name__ in TOUCHING:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)


def _limit_files(num_bytes: int) -> None:
    """SIGXFSZ, which kills, for the write that makes a file larger: in the middle of a write, wherever it is made."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _ways_to_die(largest: int, stride: int) -> Iterator[tuple[str, list[Callable[[], None]]]]:
    """What to set up in a child so that it dies at each place; a list ends with the first that lets it live."""
    for event in ("c_call", "c_return"):
        yield event, [partial(_kill_at, number, event) for number in range(1, 10_000, stride)]
    sizes = sorted({*range(0, 2000, 97), *(largest * share // 40 for share in range(40))})
    yield "within a write", [partial(_limit_files, size) for size in sizes[::stride]]


def _kill_everywhere(model: str, out: str, result: str, stride: int) -> None:
    """In a process of its own, with one thread: only such a one can fork and go on."""
    torch.set_num_threads(1)
    loaded, extractor, snapshot = build_saveable(Path(model))
    folder = Path(out)
    deaths: Counter[str] = Counter()
    newest: Counter[str] = Counter()

    def save(step: int) -> None:
        write_checkpoint(folder, snapshot(step), loaded, extractor)
        prune_checkpoints(folder, 1)

    save(1)
    largest = max(path.stat().st_size for path in (folder / "checkpoint-1").iterdir())
    step = 1
    for name, ways in _ways_to_die(largest, stride):
        for way in ways:

            def die(way: Callable[[], None] = way, step: int = step + 1) -> None:
                way()
                save(step)

            status = _in_child(die)
            assert status in (0, -signal.SIGKILL, -signal.SIGXFSZ), status
            assert damaged(folder) == []
            found = find_newest(folder)
            assert found is not None
            kept = int(found.name.split("-")[1])
            assert kept in (step, step + 1), (name, kept, step)
            newest["new" if kept == step + 1 else "old"] += 1
            if status == 0:
                break
            deaths[name] += 1
            sweep(folder)
            prune_checkpoints(folder, 1)  # as whoever goes on does; else each death left more to remove for the next
            assert [path.name for path in folder.iterdir()] == [found.name]
            step = kept
    assert _in_child(lambda: save(step + 10)) == 0
    assert find_newest(folder) == folder / f"checkpoint-{step + 10}"
    Path(result).write_text(json.dumps({"deaths": deaths, "newest": newest}))


def test_killed_at_every_write(tiny_model: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Before and after each call that changes the disk, and in the middle of writes: old or new, never neither.

    At every thirteenth place; at each with `--faults 50` or more.
    """
    stride = 1 if pytestconfig.getoption("--faults") >= 50 else 13
    result = tmp_path / "result.json"
    process = multiprocessing.get_context("spawn").Process(
        target=_kill_everywhere, args=(str(tiny_model), str(tmp_path / "run"), str(result), stride)
    )
    process.start()
    process.join(250 if stride > 1 else 3600)
    assert process.exitcode == 0
    found = json.loads(result.read_text())
    assert found["deaths"]["c_call"] > 150 / stride
    assert found["deaths"]["c_return"] > 150 / stride
    assert found["deaths"]["within a write"] > 50 / stride
    assert found["newest"]["old"] > found["newest"]["new"] > 0
    print(f"killed {found['deaths']}; found afterwards {found['newest']}")  # noqa: T201 - the figure
