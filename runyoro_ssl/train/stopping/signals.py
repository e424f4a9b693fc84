"""Signals stop a run between two steps: the first signal is remembered, a second one leaves at once."""

from __future__ import annotations

import os
import select
import signal
import stat
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from runyoro_ssl.logs import get_logger
from runyoro_ssl.processes import NOTICES, SIGNAL_EXIT, SIGNALS

log = get_logger()

TOGETHER_SEC = 0.5
"""Signals this close are one request: torchrun passes on the Ctrl-C that its processes got too."""
STDERR = 2


class StopSignal:
    """A listener to signals: while entered, `received` tells whether the run was asked to stop, and by which.

    A second request leaves at once, even while the main thread is inside torch: a thread acts on it. A hang-up is
    never a second request, for it may come twice, or after Ctrl-C, when a terminal is closed. A notice (SIGUSR1,
    SIGXCPU) is neither a first nor a second one: the SIGTERM that follows it must not cost the save. Outside the main
    thread nothing is handled; nor is a hang-up that `nohup` had ignored.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._announced = False
        self._previous: dict[signal.Signals, Any] = {}
        self._listener: threading.Thread | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._listener = threading.Thread(target=_listen, args=(self._reader,), daemon=True)
            self._listener.start()
            self._previous_writer = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            for number in SIGNALS:
                if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is None:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_writer)
        os.close(self._writer)
        self._listener.join()
        os.close(self._reader)

    def announce(self) -> None:
        """Log once, if asked to stop, what happens now. Called by the loop: a handler that logs can wait for itself."""
        if self.received is not None and not self._announced:
            self._announced = True
            log.warning(
                "stopping",
                signal=self.received.name,
                now="finishing the step, then saving; a second one leaves at once",
            )

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        if number == getattr(signal, "SIGHUP", None):
            _leave_terminal()


def _listen(reader: int) -> None:
    """Read the numbers of signals as they come, and act on the second request."""
    first: float | None = None
    while got := os.read(reader, 1):
        number, now = got[0], time.monotonic()
        if number not in SIGNALS or number in NOTICES:
            continue
        if first is None:
            first = now
        elif number in (signal.SIGINT, signal.SIGTERM) and now - first > TOGETHER_SEC:
            _leave(signal.Signals(number))


def _leave(number: signal.Signals) -> None:
    status = SIGNAL_EXIT + number
    show_cursor = "\x1b[?25h\n" if os.isatty(STDERR) else ""
    _say(
        f"{show_cursor}left at once by {number.name} (status {status}): every checkpoint already written is kept, what "
        "came after the last is lost; go on with --resume-from-checkpoint last\n"
    )
    os._exit(status)


def _leave_terminal() -> None:
    """Write no more to what hung up: an error in a log line would cost the checkpoint. Files stay open."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for file in (1, STDERR):
        with suppress(OSError):  # closed before
            if not stat.S_ISREG(os.fstat(file).st_mode):
                if file == STDERR:
                    _say("SIGHUP: finishing the step, then saving; nothing more is said here\n")
                os.dup2(nowhere, file)
    os.close(nowhere)


def _say(text: str) -> None:
    """Write to stderr without a lock, and only if it takes it: a stopped terminal (Ctrl-S) would block."""
    with suppress(OSError):
        if select.select([], [STDERR], [], 0)[1]:
            os.write(STDERR, text.encode())
