"""A Mac that trains is kept from falling asleep here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from runyoro_ssl.logs import get_logger

log = get_logger()

COMMAND = ("caffeinate", "-i", "-m", "-w")
"""caffeinate(8): `-i` no idle sleep, `-m` no idle sleep of the disk, `-w` ends with the process named. The display may
sleep. None of them stops a laptop whose lid is closed."""
START_SEC = 0.3
"""One that fails has ended by then."""
END_SEC = 5.0


@contextmanager
def keep_awake(enabled: bool) -> Iterator[None]:  # noqa: FBT001 - the one thing it is about
    """Prevent idle sleep, on macOS and if enabled. Where that cannot be had, one warning says so."""
    process = _start() if enabled and sys.platform == "darwin" else None
    try:
        yield
    finally:
        if process is not None:
            _end(process)


def _start() -> subprocess.Popen[bytes] | None:
    quiet = subprocess.DEVNULL
    try:
        # A session of its own: Ctrl-C asks the run to save, and that takes a machine that is awake.
        process = subprocess.Popen(  # noqa: S603 - fixed, but for our own number
            [*COMMAND, str(os.getpid())], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
    except OSError as error:
        _warn(str(error))
        return None
    try:
        status = process.wait(START_SEC)
    except subprocess.TimeoutExpired:
        return process
    _warn(f"{COMMAND[0]} ended at once with status {status}")
    return None


def _warn(because: str) -> None:
    log.warning("may_fall_asleep", because=because, advice="switch off sleep in System Settings")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SEC)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
