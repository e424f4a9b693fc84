"""Golden numbers: what a test found, compared with what was pinned, value by value; or pinned anew on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

REWRITE = "pytest tests/golden --rewrite-golden"
"""Pins what the code gives now. The commit must say why it changed."""
MAX_TOLD = 12
"""Differences that a failure lists, of each part."""

Tolerance = Callable[[str], tuple[float, float]]
"""Path of a number -> the relative and the absolute difference that other machines may show."""


def exact(_path: str) -> tuple[float, float]:
    """No difference at all."""
    return 0.0, 0.0


def check(config: pytest.Config, file: Path, keys: tuple[str, ...], found: Any, tolerance: Tolerance = exact) -> None:
    """Compare with the pins of a JSON file under these keys; with --rewrite-golden, become them.

    `found` is JSON: its dictionaries, by name, are the parts that a failure tells apart. Skips if nothing is pinned.
    """
    pinned = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    place = pinned
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    if config.getoption("--rewrite-golden"):
        place[keys[-1]] = found
        file.write_text(_to_text(pinned) + "\n", encoding="utf-8")
        return
    if keys[-1] not in place:
        pytest.skip(f'{file.name} has no pins for "{"/".join(keys)}"; where the code is known to be right, {REWRITE}')
    if differing := differences(place[keys[-1]], json.loads(json.dumps(found)), tolerance):
        told = "\n".join(
            f"{part}: {len(lines)} differ\n  " + "\n  ".join(lines[:MAX_TOLD]) for part, lines in differing.items()
        )
        pytest.fail(
            f"{file.name}, {'/'.join(keys)}: not what was pinned\n{told}\nIf that is meant: {REWRITE}", pytrace=False
        )


def differences(pinned: Any, found: Any, tolerance: Tolerance = exact) -> dict[str, list[str]]:
    """A line for each value that is missing, new or different, by the part it belongs to."""
    before, now = dict(_leaves(pinned)), dict(_leaves(found))
    lines: dict[str, list[str]] = {}
    for path in before | now:
        one, other = before.get(path, "nothing"), now.get(path, "nothing")
        if not _agree(one, other, *tolerance(path)):
            part, _, rest = path.partition("/")
            lines.setdefault(part, []).append(f"{rest}: pinned {one!r}, found {other!r}")
    return lines


def _agree(pinned: Any, found: Any, relative: float, absolute: float) -> bool:
    """Whether two values are the same, or numbers near enough."""
    if isinstance(pinned, int | float) and isinstance(found, int | float):
        return bool(found == pytest.approx(pinned, rel=relative, abs=absolute, nan_ok=True))
    return bool(pinned == found)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of all that is no list or dictionary; of those, the empty ones."""
    if isinstance(value, Mapping | list) and value:
        for name, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _leaves(part, f"{path}/{name}" if path else str(name))
    else:
        yield path, value


def _to_text(value: Any, indent: str = "") -> str:
    """JSON for people: what holds only scalars stands on one line."""
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping | list) or not any(isinstance(part, Mapping | list) for part in parts):
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    names = [f"{json.dumps(name)}: " for name in value] if isinstance(value, Mapping) else [""] * len(value)
    lines = ",\n".join(inner + name + _to_text(part, inner) for name, part in zip(names, parts, strict=True))
    first, last = "{}" if isinstance(value, Mapping) else "[]"
    return f"{first}\n{lines}\n{indent}{last}"
