"""Patience with a network that breaks and a hub that asks to wait: what is waited for is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from runyoro_ssl.hub.failures import first_line, is_broken_off, seconds_to_wait, status_of
from runyoro_ssl.logs import get_logger

log = get_logger()

Result = TypeVar("Result")
MAX_TRIES = 5
"""In a row that bring nothing."""
MAX_WAIT_SEC = 300.0
"""The hub's limits are for five minutes: a longer wait is left to the person."""
TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, 500, 502, 503, 504)


def patiently(act: Callable[[], Result], progress: Callable[[], int] = lambda: 0) -> Result:
    """What an action gives, tried again while it fails for the network's or the hub's sake.

    `progress`: what it has brought so far; where that grows, the tries are counted anew.

    Raises:
        Exception: Of the hub's client: another failure, a wait of more than five minutes, or the last of `MAX_TRIES`.
    """
    tries = 0
    while True:
        before = progress()
        try:
            return act()
        except Exception as error:
            tries = 1 if progress() > before else tries + 1
            seconds = _wait_of(error, tries)
            if seconds is None or tries >= MAX_TRIES:
                raise
            event = "hub_asks_to_wait" if status_of(error) == HTTPStatus.TOO_MANY_REQUESTS else "broke_off"
            log.warning(
                event, because=first_line(error), trying_again_in=f"{seconds:.0f} s", times=f"{tries} of {MAX_TRIES}"
            )
            time.sleep(seconds)


def _wait_of(error: Exception, tries: int) -> float | None:
    """Seconds to wait before another try; None if there should be none."""
    status = status_of(error)
    if not (is_broken_off(error) or status in TRY_AGAIN):
        return None
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        asked = seconds_to_wait(error.response.headers)  # type: ignore[attr-defined]
        if asked is not None:
            return asked + 1 if asked <= MAX_WAIT_SEC else None
    return 2.0**tries
