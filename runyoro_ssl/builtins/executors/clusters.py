"""Executors of other machines: a Dask cluster, Slurm."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path
from typing import Any

from runyoro_ssl.builtins.executors.apart import ProcessDied, call_apart
from runyoro_ssl.errors import ConfigError

CONNECT_SEC = 10.0
POLL_SEC = 2.0


class DaskExecutor(Executor):
    """Executor on a Dask cluster, each task in a process of its own there. The cluster outlives it."""

    def __init__(self, where: str) -> None:
        distributed = _import("distributed", "dask")
        if not where.rpartition(":")[0] or not where.rpartition(":")[2].isdigit():
            raise ConfigError(f"prepare.executor is dask://{where}: say where the scheduler is, dask://HOST:PORT")
        # They log every failed attempt to connect, and each traceback that is raised here, too.
        for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._where = where
        try:
            asyncio.run(_ask_scheduler(where))
            self._client = distributed.Client(f"tcp://{where}", timeout=CONNECT_SEC, set_as_default=False)
        except OSError as error:
            raise ConfigError(
                f"prepare.executor is dask://{where}: no scheduler answers there ({str(error)[:100] or 'silence'}); "
                "start one with `dask scheduler`, and workers with `dask worker`"
            ) from None
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SEC)
        except TimeoutError:
            self._client.close()
            raise ConfigError(
                f"prepare.executor is dask://{where}: the scheduler has no worker; start some with `dask worker`"
            ) from None
        self._running: dict[Future[Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a task."""
        future: Future[Any] = Future()
        task = self._client.submit(call_apart, partial(fn, **kwargs), args, pure=False)
        self._running[future] = task
        task.add_done_callback(lambda task: self._settle(future, task))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """Let the tasks end, or cancel them; one that runs ends by itself, and nobody waits for it."""
        if cancel_futures:
            self._client.cancel(list(self._running.values()), force=True)
        elif wait:
            wait_for(list(self._running))
        self._client.close()

    def _settle(self, future: Future[Any], task: Any) -> None:
        _settle(future, partial(self._result, task))
        self._running.pop(future, None)

    def _result(self, task: Any) -> Any:
        try:
            return task.result()
        except CancelledError:  # nobody here did
            raise ConfigError(
                f"prepare.executor is dask://{self._where}: the scheduler is gone, or somebody cancelled the work; "
                "what is done stays, run the same again"
            ) from None


class SlurmExecutor(Executor):
    """Executor on Slurm, each task a job, through submitit; files go to `folder`, which every node must see."""

    def __init__(self, folder: Path, cluster: str | None, parameters: dict[str, Any]) -> None:
        submitit = _import("submitit", "slurm")
        try:
            self._jobs = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._jobs.update_parameters(**parameters)
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
        try:
            job = self._jobs.submit(call_apart, partial(fn, **kwargs), args)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            raise ConfigError(f"prepare.executor is slurm: it takes no job ({_one_line(error)})") from None
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
                _settle(future, job.result)


async def _ask_scheduler(where: str) -> None:
    """Raise OSError if nobody is there, or somebody else: the client would try for long, and complain for longer."""
    from distributed import rpc

    host, _, port = where.rpartition(":")
    _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), CONNECT_SEC)
    writer.close()
    scheduler = rpc(f"tcp://{where}", timeout=CONNECT_SEC)  # type: ignore[no-untyped-call]
    try:
        await asyncio.wait_for(scheduler.identity(), CONNECT_SEC)
    finally:
        await scheduler.close_rpc()  # type: ignore[no-untyped-call]


def _settle(future: Future[Any], outcome: Callable[[], tuple[int, Any]]) -> None:
    """What `call_apart` gave, or how it failed, into the future."""
    try:
        exitcode, value = outcome()
    except Exception as error:  # noqa: BLE001 - handed on, as a Future does
        future.set_exception(error)
        return
    if exitcode:
        future.set_exception(ProcessDied(exitcode))
    else:
        future.set_result(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _import(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"prepare.executor is {extra}: {module} is not installed; pip install 'runyoro_ssl[{extra}]'"
        ) from None
