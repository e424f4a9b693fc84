"""Times, sizes, shares and numbers as people read them."""

from __future__ import annotations

MIB, GIB = 1 << 20, 1 << 30


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
