"""The real command line in a process of its own, of which everything can be set: streams, limits, environment."""

from __future__ import annotations

import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from support.forked import FORKED

CLOSED = "closed"
FRESH = Path(sys.executable).parent / "runyoro-ssl"
POLL_SEC = 0.02


@dataclass(frozen=True)
class Command:
    """A command line. `log` with `.out` and `.err` is where it speaks, unless `streams` has a path or CLOSED for it.

    `is_fresh`: in an interpreter of its own, which reads the environment anew; else a fork of one that has imported.
    """

    words: Sequence[str]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    streams: Mapping[int, str] = field(default_factory=dict)
    limits: Sequence[tuple[int, int]] = ()
    umask: int = 0o022
    is_fresh: bool = False

    @property
    def said(self) -> str:
        """What it has said so far, on both streams, as far as that went into files."""
        return self.out + self.err

    @property
    def out(self) -> str:
        """The first stream."""
        return _read(self.log.with_suffix(".out"))

    @property
    def err(self) -> str:
        """The second."""
        return _read(self.log.with_suffix(".err"))

    @property
    def since(self) -> float:
        """When its process began, in seconds since the epoch."""
        path = self.log.with_suffix(".begun")
        return path.stat().st_mtime if path.exists() else time.time()

    @property
    def begun(self) -> bool:
        """Whether its process is there, and about to enter our code."""
        return self.log.with_suffix(".begun").exists()


@dataclass(frozen=True)
class Ended:
    """How a command ended. `status` None: it did not, within its time."""

    status: int | None
    out: str
    err: str
    seconds: float
    most_mib: float

    @property
    def said(self) -> str:
        """Both streams."""
        return self.out + self.err


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "backslashreplace") if path.exists() else ""


def start(command: Command) -> BaseProcess:
    """Begin."""
    for suffix in (".out", ".err", ".begun"):
        command.log.with_suffix(suffix).unlink(missing_ok=True)
    process = FORKED.Process(target=_be, args=(command,))
    process.start()
    return process


def finish(command: Command, *, limit_sec: float) -> Ended:
    """Begin, and wait for the end."""
    return wait(command, start(command), limit_sec=limit_sec)


def wait(command: Command, process: BaseProcess, *, limit_sec: float) -> Ended:
    """Wait for the end of what has begun; after the limit, it and all it started are killed."""
    most, end = 0.0, time.monotonic() + limit_sec
    while process.is_alive() and time.monotonic() < end:
        with suppress(psutil.Error):
            most = max(most, psutil.Process(process.pid).memory_info().rss / 2**20)
        process.join(5 * POLL_SEC)
    status = process.exitcode
    assert process.pid is not None
    with suppress(ProcessLookupError, PermissionError):  # what it left, too
        os.killpg(process.pid, signal.SIGKILL)
    process.join(20)
    return Ended(status, command.out, command.err, time.time() - command.since, most)


def _be(command: Command) -> None:
    """In the process: be that command."""
    os.setsid()
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, handler)
    os.umask(command.umask)
    os.chdir(command.folder)
    os.environ.clear()
    os.environ.update(command.environment)
    command.log.with_suffix(".begun").touch(mode=0o644)
    _lay_streams(command)
    for kind, value in command.limits:
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    if command.is_fresh:
        os.execve(FRESH, ["runyoro-ssl", *command.words], os.environ)  # noqa: S606 - a command line needs no shell
    import torch

    torch.set_num_threads(1)
    sys.argv = ["runyoro-ssl", *command.words]
    runpy.run_module("runyoro_ssl", run_name="__main__", alter_sys=True)


def _lay_streams(command: Command) -> None:
    """Streams lead to where they were said to lead; a terminal becomes that of this session."""
    places = {0: os.devnull, 1: str(command.log.with_suffix(".out")), 2: str(command.log.with_suffix(".err"))}
    opened = {}
    for number, place in {**places, **command.streams}.items():
        how = os.O_RDONLY if number == 0 and place == os.devnull else os.O_WRONLY | os.O_APPEND
        how = os.O_RDWR if place.startswith("/dev/pts") else how
        opened[number] = None if place == CLOSED else os.open(place, how | os.O_CREAT, 0o644)
    for number, descriptor in opened.items():
        if descriptor is None:
            os.close(number)
        else:
            os.dup2(descriptor, number)
            os.close(descriptor)
