"""The checkpoints in a folder: by the names that a run gives them; and by what is in them, whatever they are called."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

from runyoro_ssl.train.checkpoints.format import PREFIX, STATE

SUPERSEDED = "superseded-"
"""Checkpoints of a course that the run left; removed when space is short."""
DAMAGED = "damaged-"
NAME = re.compile(rf"{PREFIX}(0|[1-9][0-9]{{0,17}})")


def list_checkpoints(output_dir: Path) -> list[tuple[int, Path]]:
    """Every checkpoint of a run as (step, folder), by step: those that have the names that a run gives them."""
    return [(step, folder) for step, folder in named(output_dir) if folder.is_dir()]


def named(output_dir: Path) -> list[tuple[int, Path]]:
    """The same, and with them links that lead nowhere now."""
    entries = [(NAME.fullmatch(path.name), path) for path in output_dir.glob(f"{PREFIX}*")]
    return sorted((int(name[1]), path) for name, path in entries if name and (path.is_dir() or path.is_symlink()))


def list_all(output_dir: Path) -> list[tuple[int, Path]]:
    """Every checkpoint, under whatever name, as (the step that its name or its state gives, the later one; folder).

    By step; of two of the same, the one that the run named itself comes last. Those that were set aside are none.
    """
    own = named(output_dir)
    known = {path.resolve() for _, path in own}
    others = [path for path in output_dir.iterdir() if _may_be_one(path) and path.resolve() not in known]
    found = [(step, False, path) for path in others if (step := own_step(path)) is not None]
    found += [(max(step, own_step(path) or 0), True, path) for step, path in own]
    return [(step, path) for step, _, path in sorted(found)]


def _may_be_one(path: Path) -> bool:
    """Whether something may be a checkpoint that was renamed or copied by hand."""
    aside = path.name.startswith((".", SUPERSEDED, DAMAGED)) or NAME.fullmatch(path.name)
    return not aside and path.is_dir()


def own_step(folder: Path) -> int | None:
    """The step that a checkpoint's state gives; None where it cannot be read, or gives none."""
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        step = json.loads((folder / STATE).read_text(encoding="utf-8"))["step"]
        return step if type(step) is int and step >= 0 else None
    return None
