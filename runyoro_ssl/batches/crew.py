"""What builds the batches of a loader, as the thread that has it built and the thread that waits both see it."""

from __future__ import annotations

import multiprocessing.process
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from runyoro_ssl.batches.build import Waveforms, place_of
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.dataset.layout import CLIPS

NO_CLIP = -1
UNANSWERING = ("stopped", "disk-sleep")
"""Psutil's names of states in which a process answers nobody."""


@dataclass
class Crew:
    """The processes that build batches, what they are at, and whether they are to stop.

    `rows`: int64 (workers or 1,), the clip that each is at. `clips`: the clips themselves.
    """

    rows: torch.Tensor
    clips: Waveforms
    stage: str
    sent: deque[MicroBatch] = field(default_factory=deque)
    """Begun and not yet there; the first of them is what is waited for."""
    workers: Sequence[Any] = ()
    awaited: Callable[[], int | None] = lambda: None
    """The number of the worker that has the first of them in hand."""
    hung: str | None = None
    """What hung, if these workers were killed for it."""
    is_starting: bool = False
    """Whether one of these workers has given nothing yet."""
    num_built: int = 0
    """Batches that were built so far, by whomever."""
    is_closing: bool = False

    def noted(self) -> NotedClips:
        """The clips, for those who build, with a note of where they are."""
        return NotedClips(self.clips, self.rows)

    def kill(self) -> None:
        """End the workers, whatever they are at."""
        for worker in self.workers:
            with suppress(ValueError, AttributeError):  # closed meanwhile
                worker.kill()  # torch would have terminated it, which it ignores

    def describe_hang(self, seconds: float) -> str:
        """Which worker gives nothing, and for how long; or this process."""
        what = "the thread that builds batches has given nothing"
        if self.workers:
            named = [number for number, worker in enumerate(self.workers) if _state(worker) in UNANSWERING]
            first = self.awaited()
            numbers = named or ([first] if first is not None else [])
            who = ", ".join(f"worker {number}, {_pid(self.workers[number])}" for number in numbers)
            what = f"a process that builds batches hung ({who or 'which is not known'}): nothing came"
        return f"{what} for {seconds:.0f} s"

    def describe_clips(self, numbers: Sequence[int] | None = None) -> str:
        """The last clip that these workers read; without numbers, also those of the batch that is waited for."""
        if numbers is not None:
            return ", ".join(self._name(int(self.rows[number])) for number in numbers)
        number = self.awaited() if self.workers else 0
        at = self._name(int(self.rows[number or 0]))
        awaited = list(self.sent)[:1]
        if not awaited:
            return at
        places = (place_of(self.clips, clip) for clip in awaited[0].clips)
        rows = ", ".join(f"{row}{f' of {name}' if name else ''}" for name, row in places)
        return f"{at}; its micro-batch is of rows {rows}"

    def _name(self, row: int) -> str:
        if row == NO_CLIP:
            return "none, it died before"
        if self.stage == "eval":
            return f"row {row} of the validation split"
        name, row = place_of(self.clips, row)
        return f"row {row} of the train split{f' of {name}' if name else ''} (line {row + 1} of the dataset's {CLIPS})"

    def shrunk(self) -> str | None:
        """A file of the dataset that is shorter than when it was opened, in words, if there is any."""
        find: Callable[[], str | None] = getattr(self.clips, "shrunk", lambda: None)
        return find()

    def changed(self) -> str | None:
        """Why processes that start now would read other clips than those of the run, in words, if they would."""
        find: Callable[[], str | None] = getattr(self.clips, "changed", lambda: None)
        return find()

    def describe_bus_error(self) -> str:
        """Why memory that is mapped from a file could not be read, and what to do."""
        if (file := self.shrunk()) is not None:
            return (
                f"{file}: it was changed in place while the run read it (rsync --inplace, or a share that lost it). "
                "Put it back as it was, or make the dataset anew with `invoke prepare --overwrite`"
            )
        return (
            "the disk or share of the dataset failed, or a file of it was cut short while it was read; or /dev/shm is "
            "full (then --dataloader-num-workers 0). See to it, or copy the dataset to another disk"
        )


def forget(worker: Any) -> None:
    """Have this process end without a worker that even SIGKILL does not end: multiprocessing would join it for ever."""
    if worker.is_alive():
        multiprocessing.process._children.discard(worker)  # type: ignore[attr-defined]  # noqa: SLF001 - no public way


def describe_exit(status: int) -> str:
    """The way in which a process ended."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _state(worker: Any) -> str:
    with suppress(Exception):  # gone meanwhile; or the bench runs where there is no psutil
        import psutil

        return str(psutil.Process(worker.pid).status())
    return ""


def _pid(worker: Any) -> str:
    return f"pid {worker.pid}" + (f", {_state(worker)}" if _state(worker) in UNANSWERING else "")


@dataclass(frozen=True)
class NotedClips:
    """The clips, and a note of the one that is read, for those who find the reader dead or stuck."""

    clips: Waveforms
    rows: torch.Tensor

    def num_samples(self, clip: int) -> int:
        """Length of the clip."""
        self._note(clip)
        return self.clips.num_samples(clip)

    def waveform(self, clip: int, start: int = 0, num_samples: int | None = None) -> np.ndarray:
        """The clip, or a window of it."""
        self._note(clip)
        return self.clips.waveform(clip, start, num_samples)

    def place(self, clip: int) -> tuple[str, int]:
        """The name of the dataset that it is of, and its row there."""
        return place_of(self.clips, clip)

    def _note(self, clip: int) -> None:
        worker = get_worker_info()
        self.rows[worker.id if worker is not None else 0] = clip
