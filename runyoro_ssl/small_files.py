"""Files that are read whole, into memory: only if they are files, and of a size that such files have."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

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


def read_object(path: Path) -> dict[str, Any]:
    """The object of a small file of JSON; or the tables of one of TOML, as its name says.

    Raises:
        OSError, ValueError: As `read_small`; or it is damaged, too deep, or holds something else.
    """
    text, is_toml = read_small(path), path.suffix == ".toml"
    try:
        found = tomllib.loads(text) if is_toml else json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"it holds {type(found).__name__}, no object")  # noqa: TRY004 - damaged, as all else here
    if is_toml and (other := next((name for name, one in found.items() if not isinstance(one, dict)), None)):
        raise ValueError(f"{other} is no table of settings")
    return found
