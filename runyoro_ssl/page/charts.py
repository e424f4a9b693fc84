"""Charts as geometry, in per cent of the drawing area; `charts.html.jinja` draws it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.page.amounts import amount_of_time, number, plural, share
from runyoro_ssl.page.axes import Tick, digits_of, nice_step, place, ticks

NUM_BINS = 36
OUTER_SHARE = 0.5
"""Per cent of the values at either end that may lie outside the axis of a histogram."""
MAX_BARS = 20


@dataclass(frozen=True)
class Bin:
    """A bar of a histogram in two parts: the upper stands on the lower."""

    left: float
    width: float
    lower: float
    upper: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """A drawn distribution. Without bins: no value is known."""

    title: str
    unit: str
    hint: str
    summary: str = ""
    note: str = ""
    median: float = 0.0
    bins: Sequence[Bin] = ()
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()


@dataclass(frozen=True)
class NamedBar:
    """A horizontal bar: `part` of the whole, `width` of the longest. `is_named` is False for those of the rest."""

    name: str
    seconds: float
    amount: str
    width: float
    part: str
    is_named: bool = True


def histogram(title: str, unit: str, hint: str, values: np.ndarray, is_upper: np.ndarray, *, noun: str) -> Histogram:
    """Draw the distribution of float64 (N,) values, NaN = not known.

    `is_upper` bool (N,) marks those that stand on the others; `noun` is what one value is of, e.g. "clip".
    """
    known = np.isfinite(values)
    if not known.any():
        return Histogram(title, unit, hint)
    edges = _edges(values[known])
    low, high = edges[0], edges[-1]
    counts = [np.histogram(values[chosen], edges)[0] for chosen in (~is_upper, is_upper)]
    step = nice_step(float((counts[0] + counts[1]).max()), 3, least=1.0)
    top = step * math.ceil((counts[0] + counts[1]).max() / step) or step
    return Histogram(
        title,
        unit,
        hint,
        summary=_summary(values[known], unit, noun),
        note=_note(known, int(known.sum() - counts[0].sum() - counts[1].sum()), noun),
        median=place(float(np.median(values[known])), low, high),
        bins=_bins(edges, counts, top, unit, noun),
        x_ticks=ticks(low, high, nice_step(high - low, 6)),
        y_ticks=ticks(0.0, top, step),
    )


def _edges(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, [OUTER_SHARE, 100 - OUTER_SHARE])
    step = nice_step(float(high - low), NUM_BINS)
    first, last = math.floor(low / step), math.floor(high / step) + 1
    return np.arange(first, last + 1) * step


def _bins(edges: np.ndarray, counts: Sequence[np.ndarray], top: float, unit: str, noun: str) -> list[Bin]:
    width = 100 / (len(edges) - 1)
    digits = digits_of(float(edges[1] - edges[0]))
    return [
        Bin(
            round(at * width, 3),
            round(width, 3),
            round(100 * float(lower) / top, 3),
            round(100 * float(upper) / top, 3),
            f"{number(edges[at], digits)} to {number(edges[at + 1], digits)} {unit}".rstrip()
            + f": {plural(int(lower + upper), noun)}",
        )
        for at, (lower, upper) in enumerate(zip(*counts, strict=True))
    ]


def _summary(values: np.ndarray, unit: str, noun: str) -> str:
    low, median, high = np.percentile(values, [10, 50, 90])
    digits = digits_of(max(float(high - low), 0.1) / 10)
    low_text, median_text, high_text = (number(float(value), digits) for value in (low, median, high))
    middle = f"{median_text} {unit}".rstrip()
    if low_text == high_text:
        return f"{middle} for nearly every {noun}."
    return f"Median {middle}; eight of ten {noun}s from {low_text} to {high_text}."


def _note(known: np.ndarray, num_outside: int, noun: str) -> str:
    parts = [f"Known of {number(known.sum())} of {plural(len(known), noun)}."] if not known.all() else []
    parts += [f"{plural(num_outside, noun)} beyond the axis."] if num_outside else []
    return " ".join(parts)


def seconds_by(pairs: Iterable[tuple[str | None, float]]) -> dict[str | None, float]:
    """Sum seconds by name, the most first, equal ones by name; None gathers what is not known."""
    sums: dict[str | None, float] = {}
    for name, seconds in pairs:
        sums[name] = sums.get(name, 0.0) + seconds
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0] or "")))


def named_bars(sums: Mapping[str | None, float]) -> list[NamedBar]:
    """Draw a bar for each of the MAX_BARS largest sums of seconds, one for the rest, one for what is not known."""
    named = [(name, seconds) for name, seconds in sums.items() if name is not None]
    listed = [(name, seconds, True) for name, seconds in named[:MAX_BARS]]
    if rest := named[MAX_BARS:]:
        listed.append((plural(len(rest), "other"), sum(seconds for _, seconds in rest), False))
    if None in sums:
        listed.append(("not known", sums[None], False))
    longest, whole = max((seconds for _, seconds, _ in listed), default=0.0) or 1.0, sum(sums.values())
    return [
        NamedBar(
            name, seconds, amount_of_time(seconds), round(100 * seconds / longest, 2), share(seconds, whole), is_named
        )
        for name, seconds, is_named in listed
    ]
