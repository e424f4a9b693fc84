"""Decoding processes: results in order, and a death that is named."""

from __future__ import annotations

import os

import pytest

from runyoro_ssl.errors import AudioError
from runyoro_ssl.prepare.workers import decoding_pool, run_ordered


def double(number: int) -> int:
    """Runs in a worker."""
    return 2 * number


def die_at_seven(number: int) -> int:
    """Runs in a worker, which a crash in a decoder would end like this."""
    if number == 7:
        os._exit(1)
    return number


def test_results_keep_the_order_of_the_items() -> None:
    """More items than are ever in flight, two workers."""
    with decoding_pool(2) as pool:
        assert list(run_ordered(pool, double, range(50))) == [2 * number for number in range(50)]


def test_death_of_a_worker_names_the_item() -> None:
    """One line with the item that had no result, never a BrokenProcessPool."""
    with decoding_pool(1) as pool, pytest.raises(AudioError, match=r"process died: at or soon after item [0-7]: take"):
        list(run_ordered(pool, die_at_seven, range(50), describe=lambda number: f"item {number}"))
