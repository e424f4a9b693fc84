"""The writer of a sharded run's checkpoints: every process writes its part, the main one the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError

from runyoro_ssl.disk.durable import close_folder, open_folder
from runyoro_ssl.disk.lock import FolderLock
from runyoro_ssl.disk.temporary import unfinished
from runyoro_ssl.errors import RunyoroError
from runyoro_ssl.train.checkpoints.format import Snapshot, checkpoint_of, write_files
from runyoro_ssl.train.checkpoints.saver import Saver
from runyoro_ssl.train.checkpoints.shards import name_parts, write_parts
from runyoro_ssl.train.stopping import clock
from runyoro_ssl.train.training_run import TrainingRun


def saver_of(run: TrainingRun, lock: FolderLock | None) -> Saver:
    """The saver of a run; only the main process has a lock. Every process calls this."""
    if run.choice.way == "shards":
        return ShardedSaver.of(run, lock, accelerator=run.accelerator)
    return Saver.of(run, lock)


class ShardedSaver(Saver):
    """A saver in every process, which save at the same point; in the background, they agree over a group of their own.

    What goes wrong in one is the problem of all.
    """

    next_try = "with the next checkpoint"

    def __init__(self, *args: Any, accelerator: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._num_processes, self._is_main = accelerator.num_processes, accelerator.is_main_process
        self._group = torch.distributed.new_group(backend="gloo")
        self._error: RunyoroError | None = None

    def _look(self, snapshot: Snapshot) -> None:
        """Nothing: the main process looks, in `_begin`, when the others wait for what it saw."""

    def _keep_trying(self, snapshot: Snapshot, started: float) -> str | None:
        """Write once: processes that try again for a while would have to agree on when."""
        return self._write(snapshot, started)

    def _write(self, snapshot: Snapshot, started: float) -> str | None:
        folder = unfinished(checkpoint_of(self._output_dir, snapshot.step))
        problem = self._agree(lambda: self._begin(snapshot))
        if problem is None:
            problem = self._agree(lambda: write_parts(folder, snapshot.parts, self._group), everywhere=True)
        if problem is None:
            problem = self._agree(lambda: self._finish(snapshot, started))
        if problem is None:
            self.seconds = clock.now() - started
            return None
        if self._is_main:
            shutil.rmtree(folder, ignore_errors=True)
        if self._error is not None:
            raise self._error
        return self._say(snapshot, problem)

    def _begin(self, snapshot: Snapshot) -> str | None:
        self._check()
        problem = self._lack_of_space(snapshot)
        if problem is None:
            open_folder(checkpoint_of(self._output_dir, snapshot.step))
        return problem

    def _finish(self, snapshot: Snapshot, started: float) -> str | None:
        final = checkpoint_of(self._output_dir, snapshot.step)
        if snapshot.parts:
            name_parts(unfinished(final), self._num_processes)
        write_files(unfinished(final), snapshot, self._model, self._extractor)
        self._check()
        close_folder(final)
        return self._verify(snapshot, started)

    def _agree(self, act: Callable[[], str | None], *, everywhere: bool = False) -> str | None:
        """Have the main process act, or every one, and get the first problem there was, the same in each."""
        mine: str | None = None
        if self._is_main or everywhere:
            try:
                mine = act()
            except (OSError, SafetensorError) as error:
                mine = str(error)
            except RunyoroError as error:  # the folder is no longer this run's
                self._error, mine = error, str(error)
        every: list[str | None] = [None] * self._num_processes
        torch.distributed.all_gather_object(every, mine, group=self._group)
        return next((problem for problem in every if problem is not None), None)

    def _say(self, snapshot: Snapshot, problem: str) -> str:
        if self._is_main:
            return super()._say(snapshot, problem)
        return problem
