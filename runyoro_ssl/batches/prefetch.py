"""Whatever comes next is built in a thread, while the device computes; nobody need wait for it without a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
POLL_SEC = 0.5
"""So long is waited at a time; between two waits, others can be asked."""
MORE, NO_MORE = True, False


class Builder(threading.Thread):
    """The thread that makes the items. `fault`: why it will never make another; it then stands still."""

    fault: str | None = None


class Prefetch(Iterator[Item], Generic[Item]):
    """The items, in order, each made while the one before is used. An error is raised where its item was due.

    Nothing is made before the first is waited for. The thread is a daemon: where it hangs, the process can end.
    """

    def __init__(self, items: Generator[Item]) -> None:
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._made: SimpleQueue[_Made[Item]] = SimpleQueue()
        self._head: _Made[Item] | None = None
        self._thread = Builder(target=_make, args=(items, self._asked, self._made), name="prefetch", daemon=True)
        self._is_over = False
        self._num_made = 0
        self.longest_sec = 0.0
        """What the slowest item took to make. The first, which starts whatever makes them, does not count."""

    def wait(self, timeout_sec: float = POLL_SEC) -> bool:
        """Wait for the next item, or the end, or an error. Returns whether it is there, for `next` to give."""
        if self._head is None and not self._is_over:
            if self._thread.ident is None:
                self._asked.put(MORE)
                self._thread.start()
            try:
                self._head = self._made.get(timeout=timeout_sec)
            except Empty:
                if self._thread.is_alive() or not self._made.empty():
                    return False
                raise RuntimeError("the thread that builds batches has ended, and handed over nothing") from None
        return True

    def __next__(self) -> Item:
        while not self.wait():
            pass
        if self._head is None:
            raise StopIteration
        made, self._head = self._head, None
        if made.error is not None or not made.items:
            self._is_over = True
            raise made.error or StopIteration
        if self._num_made:
            self.longest_sec = max(self.longest_sec, made.seconds)
        self._num_made += 1
        self._asked.put(MORE)
        return made.items.pop()

    @property
    def fault(self) -> str | None:
        """Why nothing more will come, where the thread cannot say so by an error."""
        return self._thread.fault

    def close(self, timeout_sec: float = 10.0) -> bool:
        """Have the thread close `items`, after the item in the making, and end. Returns whether it has by then."""
        self._is_over, self._head = True, None
        self._asked.put(NO_MORE)
        if self._thread.ident is not None:
            self._thread.join(timeout_sec)
        return not self._thread.is_alive()

    def __del__(self) -> None:
        self._asked.put(NO_MORE)


class _Made(Generic[Item]):
    """What came of one item: itself, for one to take; or none, at the end, or for an error."""

    def __init__(self, items: list[Item], error: BaseException | None, seconds: float) -> None:
        self.items, self.error, self.seconds = items, error, seconds


def _make(items: Generator[Item], asked: SimpleQueue[bool], made: SimpleQueue[_Made[Item]]) -> None:
    """Make an item whenever one is asked for, in the thread, until there is none, one fails, or no more are wanted."""
    try:
        while asked.get():
            started = time.monotonic()
            one = list(islice(items, 1))
            is_end = not one  # asked before another thread takes the item out of the list
            made.put(_Made(one, None, time.monotonic() - started))
            if is_end:
                return
            del one  # nothing delivered is kept
    except BaseException as error:  # noqa: BLE001 - raised again where its item was due
        made.put(_Made([], error, 0.0))
    finally:
        items.close()
