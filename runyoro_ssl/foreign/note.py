"""What a folder was converted from, in a file of that folder: it need not be made again, and is named rightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from runyoro_ssl.small_files import read_small

NOTE = "converted.json"
"""`toolkit`, `num_weights`, `temperature`; name, bytes, time of the file; `Origin`; what was `heard`."""


class Origin(NamedTuple):
    """The name of a model on the hub, and the commit."""

    model: str
    revision: str


def source_of(path: Path) -> dict[str, Any]:
    """What tells a file from another one of its name."""
    stat = path.stat()
    return {"file": path.name, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def read_note(folder: Path) -> dict[str, Any]:
    """The note of a folder; nothing where there is none that can be read."""
    try:
        note = json.loads(read_small(folder / NOTE))
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def is_made_of(folder: Path, path: Path) -> bool:
    """Whether a folder was converted from a file as it is now."""
    return read_note(folder).items() >= source_of(path).items()


def origin_of(folder: Path) -> Origin | None:
    """Where the file was fetched from that a folder was made of; None for any other folder."""
    note = read_note(folder)
    return Origin(str(note["model"]), str(note["revision"])) if note.keys() >= {"model", "revision"} else None
