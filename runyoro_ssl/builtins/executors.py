"""Built-in executors: processes of this machine, a Dask cluster, Slurm."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyoro_ssl import hookimpl
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.hookspecs import Register

CONNECT_SEC = 10.0
POLL_SEC = 2.0


class ProcessExecutor(Executor):
    """Fresh processes of this machine; one that dies costs the task it had, and is replaced."""

    def __init__(self, num_workers: int) -> None:
        import multiprocessing

        from pebble import ProcessPool

        # spawn: the same on every system, and nothing of this process's state in the others.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPool(num_workers, initializer=_silence_decoders, context=context)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call."""
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


class SlurmExecutor(Executor):
    """Each task a job, through submitit; their files go to `folder`, which every node must see."""

    def __init__(self, folder: Path, num_workers: int, cluster: str | None, parameters: dict[str, Any]) -> None:
        submitit = _import("submitit", "slurm")
        self._jobs = submitit.AutoExecutor(folder=folder, cluster=cluster)
        array = {"slurm_array_parallelism": num_workers} if cluster is None else {}
        try:
            self._jobs.update_parameters(**array, **parameters)
        except (NameError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"plugins.options.slurm: {' '.join(str(error).split())[:300]}") from None
        self._running: dict[Future[Any], Any] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a job."""
        future: Future[Any] = Future()
        job = self._jobs.submit(fn, *args, **kwargs)
        with self._lock:
            self._running[future] = job
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """Let the jobs end, or cancel them."""
        while wait and not cancel_futures and self._running:
            time.sleep(POLL_SEC)
        self._closed.set()
        with self._lock:
            for job in self._running.values():
                job.cancel(check=False)

    def _watch(self) -> None:
        while not self._closed.wait(POLL_SEC):
            with self._lock:
                ended = [(future, job) for future, job in self._running.items() if job.done()]
                for future, _ in ended:
                    del self._running[future]
            for future, job in ended:
                _settle(future, job)


def _settle(future: Future[Any], job: Any) -> None:
    """What a job gave, or how it failed, into the future."""
    try:
        future.set_result(job.result())
    except Exception as error:  # noqa: BLE001 - handed on, as a Future does
        future.set_exception(error)


@dataclass(frozen=True)
class Processes:
    """`processes`: this machine's; as many as `hardware.num_workers`."""

    def __call__(self, _where: str, num_workers: int, _folder: Path) -> Executor:
        """Start them."""
        return ProcessExecutor(num_workers)


@dataclass(frozen=True)
class Dask:
    """`dask://HOST:PORT`: a running Dask scheduler; its workers see the same files under the same paths."""

    def __call__(self, where: str, _num_workers: int, _folder: Path) -> Executor:
        """Connect to the scheduler."""
        distributed = _import("distributed", "dask")
        if not where:
            raise ConfigError("prepare.executor is dask: say where the scheduler is, dask://HOST:PORT")
        try:
            client = distributed.Client(f"tcp://{where}", timeout=CONNECT_SEC)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"prepare.executor is dask://{where}: no scheduler answers there ({str(error)[:100]}); "
                "start one with `dask scheduler`, and workers with `dask worker`"
            ) from None
        executor: Executor = client.get_executor(pure=False, retries=0)
        return executor


@dataclass(frozen=True)
class Slurm:
    """`slurm`: a job for each unit of work; options are submitit's, e.g. plugins.options.slurm.slurm_partition."""

    cluster: str | None = None
    """submitit's: `local` runs the jobs as processes of this machine."""
    parameters: dict[str, Any] | None = None

    def __call__(self, _where: str, num_workers: int, folder: Path) -> Executor:
        """Prepare to queue jobs."""
        return SlurmExecutor(folder / "jobs", num_workers, self.cluster, self.parameters or {})


@hookimpl
def runyoro_executors(register: Register) -> None:
    """Register the three."""
    register("processes", Processes)
    register("dask", Dask)
    register("slurm", Slurm)


def _import(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"prepare.executor is {extra}: {module} is not installed; pip install 'runyoro_ssl[{extra}]'"
        ) from None


def _silence_decoders() -> None:
    """mpg123 and others print warnings from C; their files are reported by reason. Ctrl-C is for the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
