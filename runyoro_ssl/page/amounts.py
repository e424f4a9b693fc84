"""Times, sizes, shares and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

MIB, GIB = 1 << 20, 1 << 30
SMALLEST = 1e-3
"""Smaller values are written with as many decimals as they need."""


def number(value: float, digits: int = 0) -> str:
    """Write a number with thousands separated, a true minus sign, and no minus zero."""
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text.replace("-", "\N{MINUS SIGN}")


def amount_of_time(seconds: float) -> str:
    """Write a time in hours from one hour on, in minutes from one minute on, else in seconds."""
    if seconds >= 3600:  # noqa: PLR2004 - an hour
        return f"{number(seconds / 3600, 1)} h"
    return f"{number(seconds / 60, 1)} min" if seconds >= 60 else f"{number(seconds, 1)} s"  # noqa: PLR2004 - a minute


def size(num_bytes: float) -> str:
    """Write memory or disk in GiB from one GiB on, else in MiB."""
    return f"{number(num_bytes / GIB, 2)} GiB" if num_bytes >= GIB else f"{number(num_bytes / MIB, 1)} MiB"


def clock(seconds: float) -> str:
    """Write a place in a recording, to the tenth of a second: 7:05.3, or 1:07:05.3."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    tail = f"{rest // 10:02d}.{rest % 10}"
    return f"{minutes // 60}:{minutes % 60:02d}:{tail}" if minutes >= 60 else f"{minutes}:{tail}"  # noqa: PLR2004


def share(part: float, whole: float) -> str:
    """Write a share in per cent; what is there never reads 0 %."""
    percent = 100 * part / whole if whole else 0.0
    return "< 0.1 %" if 0 < percent < 0.1 else f"{number(percent, 1)} %"  # noqa: PLR2004 - the last digit shown


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: 1 clip, 2 clips."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def figure(value: float | None, unit: str = "") -> str:
    """Write a measured value with its unit; None and what is no number read "not measured".

    A unit of "%" shows a share of 0..1 in per cent. Small values have two digits that are not 0, and no power of ten.
    """
    if value is None or not math.isfinite(value):
        return "not measured"
    shown = 100 * value if unit == "%" else value
    if 0 < abs(shown) < SMALLEST:
        text = number(shown, 1 - math.floor(math.log10(abs(shown)))).rstrip("0")
    else:
        text = number(shown, 0 if shown == 0 else _digits(abs(shown), unit))
    return f"{text} {unit}".rstrip()


def figures(values: Sequence[float], unit: str = "", *, is_signed: bool = False) -> list[str]:
    """Write values that belong together, such as the ends of an interval: without the unit, with equal decimals.

    `is_signed` shows the sign of what is above 0, too: of differences.
    """
    shown = [100 * value if unit == "%" else value for value in values]
    digits = _digits(max(map(abs, shown)), unit)
    texts = [number(value, digits) for value in shown]
    return [f"+{text}" if is_signed and value > 0 else text for text, value in zip(texts, shown, strict=True)]


def _digits(size: float, unit: str) -> int:
    """Decimals for a value of this size: for per cent one, two under 1; else as many as three digits need."""
    if unit == "%":
        return 1 if size >= 1 else 2
    if 0 < size < SMALLEST:
        return 1 - math.floor(math.log10(size))
    return next((digits for digits, least in enumerate((100, 10, 1)) if size >= least), 3)
