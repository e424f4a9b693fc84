"""What a task may replace: a file that such a task has written, and nobody else's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from runyoro_ssl.errors import ConfigError


def refuse_foreign(path: Path, is_ours: Callable[[Path], bool], what: str, option: str) -> None:
    """Refuse to replace what is not a file of ours, before any work is done. What is absent, or empty, may be written.

    Args:
        path: What is to be written.
        is_ours: Whether a file is `what`. It may raise OSError or ValueError, which is a no.
        what: What the file would have to be, e.g. "a manifest".
        option: What names it.

    Raises:
        ConfigError: It is something else; or cannot be read, so that nobody knows.
    """
    if not path.exists():
        return
    if path.is_file():
        try:
            if path.stat().st_size == 0 or is_ours(path):
                return
        except (OSError, ValueError):
            pass
    raise ConfigError(f"{path} is there and is not {what}, so that it is not replaced; give another {option}")


def refuse_unwritable(folder: Path, option: str) -> None:
    """Refuse a folder that nothing can be written into, before any work is done. One that is absent is made.

    Raises:
        ConfigError: A file has its name, or that of a folder above it; or the rights are missing.
    """
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        raise ConfigError(f"{option} {folder}: {there} is a file; give a folder")
    if not os.access(there, os.W_OK):
        raise ConfigError(f"{folder}: {there} may not be written to; give another folder as {option}")


def is_json_of(*keys: str) -> Callable[[Path], bool]:
    """Whether a file is a JSON object with all these keys."""
    return lambda path: _has(json.loads(path.read_bytes()), keys)


def is_json_lines_of(*keys: str) -> Callable[[Path], bool]:
    """Whether the first line of a file is a JSON object with all these keys."""

    def look(path: Path) -> bool:
        with path.open("rb") as file:
            return _has(json.loads(file.readline()), keys)

    return look


def _has(found: object, keys: Iterable[str]) -> bool:
    return isinstance(found, dict) and all(key in found for key in keys)
