"""Processes that decode audio."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from runyoro_ssl.errors import AudioError

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def decoding_pool(num_workers: int) -> Iterator[Executor]:
    """A pool of fresh processes: the same on every system, and nothing of this one's state in them.

    Even one worker is a process of its own: decoders write to stderr from C, and may crash. An error or Ctrl-C waits
    only for the work in hand.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_silence_decoders)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def run_ordered(
    pool: Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    describe: Callable[[Item], str] = str,
) -> Iterator[Result]:
    """Results in the order of `items`, with a bounded number in flight.

    Raises:
        AudioError: A worker died; the message describes the first item without a result.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    in_flight = 4 * getattr(pool, "_max_workers", 1)
    todo = iter(items)
    try:
        while True:
            for item in itertools.islice(todo, in_flight - len(waiting)):
                waiting.append((item, pool.submit(function, item)))
            if not waiting:
                return
            result = waiting[0][1].result()
            waiting.popleft()
            yield result
    except BrokenProcessPool:
        place = f"at or soon after {describe(waiting[0][0])}" if waiting else "between two files"
        raise AudioError(
            "a decoding process died", f"{place}: take that file out or, if memory was short, use --num-workers 1"
        ) from None


def _silence_decoders() -> None:
    """mpg123 and others print warnings from C; their files are reported by reason. Ctrl-C is for the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
