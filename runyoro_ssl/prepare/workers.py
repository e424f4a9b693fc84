"""Run work on an executor, where any piece may kill the process that does it."""

from __future__ import annotations

import faulthandler
import itertools
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from runyoro_ssl.errors import AudioError, RunyoroError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """What became of an item: its result, or, if its process died, how long after it was sent and what is known."""

    item: Item
    result: Result | None
    lost_after_sec: float | None = None
    detail: str = ""


@contextmanager
def opened(executor: Executor) -> Iterator[Executor]:
    """The executor, and no work of it left when the block ends: an error or Ctrl-C does not wait for it."""
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown(wait=True)


def run(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, in_flight: int
) -> Iterator[Done[Item, Result]]:
    """Call `function` on every item; what is done first comes first. What the function raises is raised here.

    Any other failure of a future means that its process is gone, and costs that item alone.
    """
    running: dict[Future[Any], tuple[Item, float]] = {}
    todo = iter(items)
    while True:
        for item in itertools.islice(todo, in_flight - len(running)):
            payload = pickle.dumps((function, item))
            running[executor.submit(_call, list(sys.path), payload)] = item, time.monotonic()
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            item, sent = running.pop(future)
            yield _outcome(future, item, time.monotonic() - sent)


def run_ordered(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, in_flight: int
) -> Iterator[Done[Item, Result]]:
    """The same in the order of the items."""
    early: dict[int, Done[tuple[int, Item], Result]] = {}
    expected = 0
    for done in run(executor, _Second(function), enumerate(items), in_flight=in_flight):
        early[done.item[0]] = done
        while expected in early:
            ready = early.pop(expected)
            yield Done(ready.item[1], ready.result, ready.lost_after_sec, ready.detail)
            expected += 1


@dataclass(frozen=True)
class _Second(Generic[Item, Result]):
    """The function, on the second of a pair."""

    function: Callable[[Item], Result]

    def __call__(self, pair: tuple[int, Item]) -> Result:
        return self.function(pair[1])


def lost(done: Done[Any, Any], time_limit_sec: float) -> AudioError:
    """Why a file that killed its process cannot be used."""
    if done.lost_after_sec is not None and done.lost_after_sec >= time_limit_sec:
        return AudioError("time limit", f"decoding stood still for {time_limit_sec:g} s")
    return AudioError("decoder crashed", done.detail)


def still_alive(time_limit_sec: float) -> None:
    """End this process unless this is called again, or `at_rest`, within the limit. For workers.

    A thread of C watches: it strikes even where a decoder hangs and holds the interpreter's lock.
    """
    faulthandler.dump_traceback_later(time_limit_sec, exit=True, file=_null())


def at_rest() -> None:
    """The work is done: nothing is watched."""
    faulthandler.cancel_dump_traceback_later()


@cache
def _null() -> int:
    return os.open(os.devnull, os.O_WRONLY)


def _call(path: list[str], payload: bytes) -> tuple[bool, Any]:
    """Runs in the worker. Its path comes first: what plugins define can only then be unpickled."""
    sys.path += [place for place in path if place not in sys.path]
    function, item = pickle.loads(payload)  # noqa: S301 - from the process that started this one
    try:
        return True, function(item)
    except (RunyoroError, OSError) as error:
        return False, error
    except Exception as error:  # noqa: BLE001 - sent home, and raised there
        return False, RuntimeError(f"{type(error).__name__} in a worker:\n{traceback.format_exc()}")


def _outcome(future: Future[Any], item: Item, seconds: float) -> Done[Item, Any]:
    try:
        succeeded, value = future.result()
    except Exception as error:  # noqa: BLE001 - each executor has its own name for a lost process
        return Done(item, None, seconds, f"{type(error).__name__}: {error}".splitlines()[0][:200])
    if not succeeded:
        raise value
    return Done(item, value)
