"""Files that are read whole, into memory: only if they are files, and of a size that such files have."""

from __future__ import annotations

import stat
from pathlib import Path

MOST_BYTES = 64 << 20
"""The largest that a run writes have some MB."""


def read_small(path: Path) -> str:
    """The text of a small file, in UTF-8.

    Raises:
        OSError: It is not there, or cannot be read.
        ValueError: It is a pipe, a device or a folder, which would have no end; or is larger than any such file; or no
            UTF-8.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("a pipe, a device or a folder, and no file")
    if found.st_size > MOST_BYTES:
        raise ValueError(f"{found.st_size:,} bytes, more than any such file has")
    return path.read_text(encoding="utf-8")
