"""Whatever comes next is built in a thread, while the device computes."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from inspect import GEN_RUNNING, getgeneratorstate
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Generator[Item]) -> Generator[Item]:
    """Yield the items, in order, each made while the one before is used. An error is raised where its item was due.

    Closing this closes `items`, after the item in the making.
    """
    end = object()
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
            coming = thread.submit(next, items, end)
            while (item := coming.result()) is not end:
                coming = thread.submit(next, items, end)
                yield item  # type: ignore[misc]  # not `end`, so an item
    finally:
        if getgeneratorstate(items) != GEN_RUNNING:  # interrupted while it waited for the item in the making
            items.close()
