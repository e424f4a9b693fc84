"""The tier of a file that has the phones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runyoro_ssl.errors import EvaluationError

NAMES = ("phones", "phone", "phonemes", "segments", "segment")
"""What the tier of phones is called, whatever its case, alone or behind a speaker's name: `anna - phones`."""


def choose_tier(path: Path, names: Sequence[str], wanted: str | None) -> str:
    """The name of the tier to read: the one that is wanted, or the only one that is called like a tier of phones.

    Raises:
        EvaluationError: There is none, or more than one.
    """
    shown = ", ".join(f'"{name}"' for name in names) or "no tier of intervals"
    if wanted is not None:
        if wanted not in names:
            raise EvaluationError(f'{path}: no tier "{wanted}" (--tier); it has {shown}')
        return wanted
    found = [name for name in names if name.strip().lower() in NAMES]
    found = found or [name for name in names if _last_word(name) in NAMES]
    if len(found) != 1:
        several = "several tiers of phones" if found else f'no tier named "{NAMES[0]}", "{NAMES[1]}" or "segments"'
        raise EvaluationError(f"{path}: {several}; it has {shown}; name the one that has the phones by --tier")
    return found[0]


def _last_word(name: str) -> str:
    words = name.lower().replace("-", " ").replace("_", " ").replace(":", " ").split()
    return words[-1] if words else ""
