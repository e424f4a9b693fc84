"""A file mapped into memory that shrinks, or a disk that fails: SIGBUS costs its thread, and not what was learned."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runyoro_ssl.batches.prefetch import Builder
from runyoro_ssl.redaction import printable

FAULT = "SIGBUS: a file of the dataset could not be read"
FOREVER_SEC = 1e6
STDERR = 2


@contextmanager
def outlast_bus_errors(dataset_dirs: Sequence[Path]) -> Iterator[None]:
    """Have a thread that builds batches stand still where it meets SIGBUS, and tell those who wait for it.

    The read cannot be gone on with, nor left by an exception. In any other thread a line says what happened, before
    the process ends by it.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int) -> None:
        thread = threading.current_thread()
        if isinstance(thread, Builder):
            thread.fault = FAULT
            while True:
                time.sleep(FOREVER_SEC)
        said = (
            f"\nSIGBUS: a file that is mapped into memory was cut short while it was read, or its disk failed; the "
            f"dataset is {' or '.join(map(str, dataset_dirs))}: put it back, or make it anew with `invoke prepare "
            "--overwrite`; then --resume-from-checkpoint last\n"
        )
        faulthandler.dump_traceback(STDERR, all_threads=False)
        os.write(STDERR, printable(said).encode(errors="backslashreplace"))
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    # Python's own handlers run between two of its instructions, and this one would never end.
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    set_handler = ctypes.CDLL(None).signal
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    before = set_handler(signal.SIGBUS, ctypes.cast(handler, ctypes.c_void_p))
    try:
        yield
    finally:
        set_handler(signal.SIGBUS, before)
