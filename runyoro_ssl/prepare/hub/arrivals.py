"""What has come of a dataset: kept, so that a stream that broke off goes on where it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from runyoro_ssl.disk.durable import write_jsonl

NOTES = "arrived.jsonl"
"""First the commit; then, a line each, what came at once."""


@dataclass
class Arrivals:
    """Recordings in a folder: their lines of the manifest, and the rows that are none; `place` is that after them."""

    folder: Path
    place: tuple[int, int] = (0, 0)
    lines: list[dict[str, Any]] = field(default_factory=list)
    broken: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    """Audio that can be read."""

    @property
    def num_rows(self) -> int:
        """Rows that have come."""
        return len(self.lines) + len(self.broken)

    @classmethod
    def begin(cls, folder: Path) -> Self:
        """Nothing, in an empty folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return cls(folder)

    @classmethod
    def go_on(cls, folder: Path, commit: str | None) -> Self:
        """What has come into the folder of this very commit, or nothing."""
        noted = _read(folder / NOTES)
        if commit is None or not noted or noted[0] != {"commit": commit}:
            noted = [{"commit": commit}]
            arrived = cls.begin(folder)
        else:
            arrived = cls(folder)
            for one in noted[1:]:
                arrived.add(one["lines"], one["broken"])
                arrived.place = tuple(one["place"])
        write_jsonl(folder / NOTES, noted)  # without a line that was cut by a kill
        return arrived

    def add(self, lines: list[dict[str, Any]], broken: list[dict[str, Any]]) -> None:
        """Count what came."""
        self.lines += lines
        self.broken += broken
        self.seconds += sum(line["duration"] for line in lines)

    def remember(self, lines: list[dict[str, Any]], broken: list[dict[str, Any]], place: tuple[int, int]) -> None:
        """Count what came, and note it, with the place after it."""
        self.add(lines, broken)
        self.place = place
        with (self.folder / NOTES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"place": place, "lines": lines, "broken": broken}) + "\n")

    def forget_places(self) -> None:
        """Leave nothing but recordings and manifest."""
        (self.folder / NOTES).unlink(missing_ok=True)


def _read(path: Path) -> list[dict[str, Any]]:
    """The notes, as far as they are whole."""
    found: list[dict[str, Any]] = []
    try:
        with path.open(encoding="utf-8") as file:
            found.extend(json.loads(line) for line in file)
    except (OSError, ValueError):  # there are none, or the last one was cut
        pass
    return found
