"""Standard streams that cost a run nothing: whoever reads them may go away, stop reading, or never have been there."""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from typing import Any

PATIENCE_SEC = 2.0
"""So long is waited, once, for a reader that does not read; until it reads again, what is written is dropped."""
CHUNK = 512
"""Bytes that a pipe or a terminal takes without waiting, once it says that it takes any (POSIX's least PIPE_BUF)."""
FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
"""There may be room again."""

_replaced: list[Any] = []
"""The streams of before: an object that nobody holds would close its descriptor."""


class LastingFile(io.FileIO):
    """Writes to a descriptor and never fails: what cannot be written is dropped.

    Where nobody is left to read, the descriptor leads to the null device from then on, for other writers, too.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._may_stall = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._dropped = 0

    def write(self, data: Any, /) -> int:
        """Write bytes, or drop them. Returns how many there were."""
        left = memoryview(data).cast("B")
        size = len(left)
        while len(left) and (not self._may_stall or self._takes_some()):
            try:
                written = self._send(left[:CHUNK] if self._may_stall else left)
            except OSError as error:
                if error.errno not in FULL:
                    _lead_nowhere(self.fileno())
                return size
            left = left[written:]
        self._dropped += len(left)
        return size

    def _send(self, data: memoryview) -> int:
        """Some of the bytes, after a line on those that were dropped before them."""
        if self._dropped:
            lost, self._dropped = self._dropped, 0
            super().write(f"\n[{lost} bytes are missing here: nobody read them]\n".encode())
        return super().write(data) or 0

    def _takes_some(self) -> bool:
        """Whether the reader takes more, or is gone. One that did not before is not waited for again."""
        _, ready, _ = select.select([], [self.fileno()], [], 0 if self._dropped else PATIENCE_SEC)
        return bool(ready)


def outlast_readers() -> None:
    """Have nothing that happens to stdout and stderr end this process. Call before anything is opened.

    Their readers may go away or hang (`LastingFile`); what their encoding does not have is written as an escape; and
    where they were closed (`>&-`) they lead to the null device, so that no file of a run gets their descriptors.
    Streams that others have put in place, as notebooks do, stay.
    """
    for descriptor in _closed():
        _lead_nowhere(descriptor)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or (stream is getattr(sys, f"__{name}__") and not isinstance(_raw_of(stream), LastingFile)):
            buffered = io.BufferedWriter(LastingFile(descriptor))
            encoding = stream.encoding if stream is not None else None
            lasting = io.TextIOWrapper(buffered, encoding, errors="backslashreplace", line_buffering=True)
            _replaced.append(stream)
            setattr(sys, name, lasting)
            setattr(sys, f"__{name}__", lasting)


def _raw_of(stream: Any) -> Any:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def _closed() -> Iterator[int]:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            yield descriptor


def _lead_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
