"""Built-in executors: processes of this machine, a Dask cluster, Slurm."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from runyoro_ssl import hookimpl
from runyoro_ssl.plugin.spec import Register
from runyoro_ssl.processes import signals_held


class ProcessExecutor(Executor):
    """Executor of fresh processes of this machine; one that dies costs the task it had, and is replaced."""

    def __init__(self, num_workers: int) -> None:
        import multiprocessing

        from pebble import ProcessPool

        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPool(num_workers, initializer=_settle_in, context=_context())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call."""
        with signals_held([signal.SIGINT]):  # the first call starts the pool, whose threads start all workers
            future: Future[Any] = self._pool.schedule(fn, args=args, kwargs=kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """Let the work end, or end it."""
        if cancel_futures:
            self._pool.stop()  # type: ignore[no-untyped-call]
        else:
            self._pool.close()  # type: ignore[no-untyped-call]
        if wait:
            self._pool.join()
        if cancel_futures:
            self._end_unknown()

    def _end_unknown(self) -> None:
        """End the worker that a signal came upon as it started, so that the pool took no note of it.

        It would wait for its first task, and this process, at its end, for it.
        """
        import multiprocessing

        for process in set(multiprocessing.active_children()) - self._others:
            process.kill()
            process.join()


@dataclass(frozen=True)
class Processes:
    """Opens `processes`: those of this machine, as many as `hardware.num_workers`."""

    def __call__(self, _where: str, num_workers: int, _folder: Path) -> Executor:
        """Start them."""
        return ProcessExecutor(num_workers)


@dataclass(frozen=True)
class Dask:
    """Opens `dask://HOST:PORT`: a running Dask scheduler; its workers see the same files under the same paths.

    For each of `hardware.num_workers`, four units of work are with the cluster at a time.
    """

    def __call__(self, where: str, _num_workers: int, _folder: Path) -> Executor:
        """Connect to the scheduler."""
        from runyoro_ssl.builtins.executors.clusters import DaskExecutor

        return DaskExecutor(where)


@dataclass(frozen=True)
class Slurm:
    """Opens `slurm`: a job for each unit of work, four at a time for each of `hardware.num_workers`.

    `plugins.options.slurm.parameters` are submitit's.
    """

    cluster: str | None = None
    """submitit's: `local` runs the jobs as processes of this machine."""
    parameters: dict[str, Any] | None = None

    def __call__(self, _where: str, _num_workers: int, folder: Path) -> Executor:
        """Prepare to queue jobs."""
        from runyoro_ssl.builtins.executors.clusters import SlurmExecutor

        return SlurmExecutor(folder, self.cluster, self.parameters or {})


@hookimpl
def runyoro_executors(register: Register) -> None:
    """Register the executors."""
    register("processes", Processes)
    register("dask", Dask)
    register("slurm", Slurm)


def _context() -> Any:
    """Start of processes that is the same on every system, and gives the others nothing of this process's state.

    It keeps its locks: the pool drops them before it ends its workers, and one that is still starting would look for
    them in vain, and say so with a traceback.
    """
    from multiprocessing.context import SpawnContext

    class LockKeeper(SpawnContext):
        locks: ClassVar[list[Any]] = []

        def RLock(self) -> Any:  # noqa: N802 - as multiprocessing has it
            self.locks.append(super().RLock())
            return self.locks[-1]

    return LockKeeper()


def _settle_in() -> None:
    """Make a new worker leave Ctrl-C to the main process, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # mpg123 and others print warnings from C; their files are reported by reason.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    assert parent  # noqa: S101 - this is a worker
    parent.join()
    os._exit(1)
