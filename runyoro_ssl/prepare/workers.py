"""Work on an executor, where any item may kill the process that works on it."""

from __future__ import annotations

import faulthandler
import itertools
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError, PluginError, RunyoroError

Item = TypeVar("Item")
Result = TypeVar("Result")

ENDED_BY_WATCH = 1
"""Exit status of a process that `still_alive` ended."""
_WATCHED: ContextVar[bool] = ContextVar("watched", default=False)
"""Whether this work is in a process that may be ended: that of an executor's thread may not."""


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """An item that was worked on: its result, or, if its process died, how long after it was sent and what is known.

    `exitcode` is that of the process, -N for signal N, if the executor tells.
    """

    item: Item
    result: Result | None
    lost_after_sec: float | None = None
    exitcode: int | None = None
    detail: str = ""


@contextmanager
def opened(executor: Executor) -> Iterator[Executor]:
    """Use an executor; no work of it is left when the block ends, and an error or Ctrl-C does not wait for it."""
    try:
        yield executor
        executor.shutdown(wait=True)
    except BaseException:  # also while it is waited for
        executor.shutdown(wait=True, cancel_futures=True)
        raise


def run(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, in_flight: int
) -> Iterator[Done[Item, Result]]:
    """Call `function` on every item; what is done first comes first. What the function raises is raised here.

    So is a RunyoroError of the executor, which is then of no more use. Any other failure of a future means that its
    process is gone, and costs that item alone.
    """
    running: dict[Future[Any], tuple[Item, float]] = {}
    todo = iter(items)
    while True:
        for item in itertools.islice(todo, in_flight - len(running)):
            payload = pickle.dumps((function, item))
            running[executor.submit(_call, _this_process(), _search_path(), payload)] = item, time.monotonic()
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            item, sent = running.pop(future)
            yield _outcome(future, item, time.monotonic() - sent)


def run_ordered(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, in_flight: int
) -> Iterator[Done[Item, Result]]:
    """Call `function` on every item, as `run` does, and give what became of each in the order of the items."""
    early: dict[int, Done[tuple[int, Item], Result]] = {}
    expected = 0
    for done in run(executor, _Second(function), enumerate(items), in_flight=in_flight):
        early[done.item[0]] = done
        while expected in early:
            ready = early.pop(expected)
            yield Done(ready.item[1], ready.result, ready.lost_after_sec, ready.exitcode, ready.detail)
            expected += 1


@dataclass(frozen=True)
class _Second(Generic[Item, Result]):
    """A function, applied to the second of a pair."""

    function: Callable[[Item], Result]

    def __call__(self, pair: tuple[int, Item]) -> Result:
        return self.function(pair[1])


def why_lost(done: Done[Any, Any], time_limit_sec: float) -> AudioError:
    """The reason why a file that killed its process cannot be used: the decoder or a filter, there is no telling."""
    seconds, exitcode = done.lost_after_sec, done.exitcode
    if seconds is not None and seconds >= time_limit_sec and exitcode in (None, ENDED_BY_WATCH):
        return AudioError(Reason.TIME_LIMIT, f"stood still for {time_limit_sec:g} s, in the decoder or a filter")
    return AudioError(Reason.PROCESS_CRASHED, f"in the decoder or a filter{_how(exitcode)}")


def _how(exitcode: int | None) -> str:
    """How the process ended, alike for every executor that tells."""
    if exitcode is None:
        return ""
    if exitcode == -signal.SIGKILL:
        return ": SIGKILL, which is what a system short of memory sends"
    return f": {signal.Signals(-exitcode).name}" if exitcode < 0 else f": exit status {exitcode}"


def still_alive(time_limit_sec: float) -> None:
    """End this process unless this is called again, or `stop_watch`, within the limit. For workers.

    A thread of C watches: it strikes even where a decoder hangs and holds the interpreter's lock. Work in a thread of
    the main process is not watched.
    """
    if _WATCHED.get():
        faulthandler.dump_traceback_later(time_limit_sec, exit=True, file=_null())


def stop_watch() -> None:
    """End what `still_alive` began: the work is done, and nothing is watched."""
    if _WATCHED.get():
        faulthandler.cancel_dump_traceback_later()


@cache
def _null() -> int:
    return os.open(os.devnull, os.O_WRONLY)


def _this_process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _search_path() -> list[str]:
    """sys.path for a process that may have another working directory, for which "" stands."""
    return [os.path.abspath(place) for place in sys.path]  # noqa: PTH100 - Path("") is "."


def _call(home: tuple[str, int], path: list[str], payload: bytes) -> tuple[bool, Any]:
    """Runs in the worker. Its path comes first: what plugins define can only then be unpickled."""
    _WATCHED.set(_this_process() != home)
    sys.path += [place for place in path if place not in sys.path]
    try:
        function, item = _unpack(payload)
        return True, function(item)
    except (RunyoroError, OSError) as error:
        return False, error
    except Exception as error:  # noqa: BLE001 - sent home, and raised there
        return False, RuntimeError(f"{type(error).__name__} in a worker:\n{traceback.format_exc()}")


def _unpack(payload: bytes) -> Any:
    try:
        return pickle.loads(payload)  # noqa: S301 - from the process that started this one
    except ImportError as error:
        raise PluginError(
            f"a worker on {socket.gethostname()} cannot import {error.name} ({error}); what is installed, and the "
            "folder of plugins, must be the same there as here"
        ) from None


def _outcome(future: Future[Any], item: Item, seconds: float) -> Done[Item, Any]:
    try:
        succeeded, value = future.result()
    except RunyoroError:
        raise
    except Exception as error:  # noqa: BLE001 - each executor has its own name for a lost process
        detail = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return Done(item, None, seconds, getattr(error, "exitcode", None), detail)
    if not succeeded:
        raise value
    return Done(item, value)
