"""What a run waits for without an end of its own, a disk or a logging backend, is named when it takes long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from runyoro_ssl.logs import get_logger

log = get_logger()

TELL_SEC = 60.0
"""So long is waited without a word; then twice as long, and so on."""


@contextmanager
def named_if_it_hangs(what: str) -> Iterator[None]:
    """Say from time to time that this is waited for, and what can be done: nothing here can end it."""
    ended = threading.Event()
    threading.Thread(target=_tell, args=(what, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _tell(what: str, ended: threading.Event) -> None:
    waited = TELL_SEC
    while not ended.wait(waited):
        log.warning(
            "still_waiting",
            what=what,
            seconds=round(waited),
            advice="see to that disk, share or service; Ctrl-C twice leaves at once; written checkpoints are kept",
        )
        waited *= 2
