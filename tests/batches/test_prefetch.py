"""What comes next is made meanwhile, in order, and errors arrive where they were due."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from queue import SimpleQueue
from typing import Any

import pytest

from runyoro_ssl.batches import prefetch
from runyoro_ssl.batches.prefetch import Prefetch


def test_the_next_item_is_made_while_one_is_used() -> None:
    """And no further: memory holds one item more."""
    made: list[int] = []
    second = threading.Event()

    def items() -> Generator[int]:
        for number in range(5):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    coming = Prefetch(items())
    assert next(coming) == 0
    assert second.wait(timeout=10)
    time.sleep(0.1)
    assert made == [0, 1]
    assert list(coming) == [1, 2, 3, 4]


def test_an_error_is_raised_in_its_turn() -> None:
    """The items before it are given first."""

    def items() -> Generator[int]:
        yield 1
        raise ValueError("broken")

    coming = Prefetch(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="broken"):
        next(coming)


def builders() -> set[threading.Thread]:
    """The threads that build; a test of what hangs may have left one."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("prefetch")}


def test_closing_ends_the_thread_and_the_items() -> None:
    """A stopped run leaves neither a thread nor worker processes behind."""
    closed: list[bool] = []
    before = builders()

    def items() -> Generator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    source = items()  # held here: it is closed, and not only forgotten
    coming = Prefetch(source)
    next(coming)
    coming.close()
    assert closed == [True]
    assert builders() <= before


def test_an_interrupt_while_closing_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C by a user who does not wait for the item in the making."""
    begun, release = threading.Event(), threading.Event()

    def items() -> Generator[int]:
        yield 1
        begun.set()
        release.wait(timeout=10)
        yield 2

    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    coming = Prefetch(items())
    next(coming)
    assert begun.wait(timeout=10)
    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        coming.close()
    release.set()


def test_nothing_waits_for_a_thread_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ended it: who waits is told, and does not ask for ever."""
    monkeypatch.setattr(prefetch, "_make", lambda *_queues: None)
    coming = Prefetch(number for number in (1,))
    with pytest.raises(RuntimeError, match="has ended, and handed over nothing"):
        coming.wait(0.2)


def test_nothing_waits_for_an_item_that_hangs() -> None:
    """Neither who asks whether it is there, nor who closes; and its thread keeps no process alive."""
    release, started, before = threading.Event(), time.monotonic(), builders()

    def items() -> Generator[int]:
        yield 1
        release.wait(timeout=30)

    coming = Prefetch(items())
    assert next(coming) == 1
    assert not coming.wait(0.1)
    assert not coming.close(0.1)
    assert time.monotonic() - started < 5
    (left,) = builders() - before
    assert left.daemon
    release.set()
    left.join(10)


def test_a_taker_that_is_quicker_than_the_thread_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread may be interrupted right after it handed an item over, and find it taken."""

    class Slow(SimpleQueue):  # type: ignore[type-arg]  # whatever is handed over
        def put(self, *args: Any) -> None:
            super().put(*args)
            if isinstance(threading.current_thread(), prefetch.Builder):
                time.sleep(0.02)

    monkeypatch.setattr(prefetch, "SimpleQueue", Slow)
    coming = Prefetch(number for number in range(5))
    got: list[int] = []
    end = time.monotonic() + 10
    while time.monotonic() < end and len(got) < 5:
        if coming.wait(0.1):
            got.append(next(coming))
    assert got == [0, 1, 2, 3, 4]
    coming.close()
