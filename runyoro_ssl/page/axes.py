"""Axes of charts: round steps, where a value stands in per cent of the axis, and its labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.page.amounts import number

WIDE_DECADES = 0.7
"""Powers of ten that a logarithmic axis spans at least: under that, it has too few round labels."""

LEAST_SPAN = 0.05
"""Of the largest value, that an axis spans at least: a thousandth more is no steep rise."""


@dataclass(frozen=True)
class Tick:
    """A label of an axis and where it stands, in per cent."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A range of values and its labels. `is_log`: equal ratios are equally far apart; then `low` is above 0."""

    low: float
    high: float
    ticks: Sequence[Tick] = ()
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value stands, in per cent of the axis, kept within it."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = (math.log10(max(each, 1e-300)) for each in (low, high, value))
        return min(100.0, max(0.0, place(value, low, high)))

    def places(self, values: np.ndarray) -> np.ndarray:
        """The same for float64 (N,) values; what is no number stays so."""
        low, high = self.low, self.high
        values = np.where(np.isfinite(values), values, np.nan)
        if self.is_log:
            low, high = math.log10(low), math.log10(high)
            values = np.log10(np.where(values > 0, values, np.nan))
        found: np.ndarray = np.clip(100 * (values - low) / (high - low), 0.0, 100.0)
        return found


def nice_step(span: float, parts: int, least: float = 0.0) -> float:
    """Choose the smallest of 1, 2, 5 times a power of ten that goes at most `parts` times into `span`."""
    raw = max(span / parts, least) or 1.0
    power: float = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def ticks(low: float, high: float, step: float, scale: float = 1.0) -> list[Tick]:
    """Labels at the multiples of a step within a range; what is written is the value times `scale`."""
    places = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step
    digits = digits_of(step * scale)
    return [Tick(place(float(at), low, high), number(float(at) * scale, digits)) for at in places]


def place(value: float, low: float, high: float) -> float:
    """Where a value stands between two others, in per cent."""
    return round(100 * (value - low) / (high - low), 3)


def digits_of(step: float) -> int:
    """Decimals that tell neighbours apart."""
    return max(0, -math.floor(math.log10(step) + 1e-9))


def axis_of(
    values: np.ndarray, *, parts: int = 4, scale: float = 1.0, is_log: bool = False, margin: float = 0.04
) -> Axis:
    """Choose an axis that holds all finite values of a float64 (N,), with some `margin`, a share of the range.

    One without any finite value, or with a single one, is as wide as can be read; one of values that hardly differ is
    LEAST_SPAN wide. `scale`: what labels are multiplied
    by, 100 for per cent. A logarithmic axis takes only values above 0, and needs a range of WIDE_DECADES; else it is
    linear.
    """
    known = values[np.isfinite(values)]
    if is_log and (known := known[known > 0]).size and np.log10(known.max() / known.min()) >= WIDE_DECADES:
        return _log_axis(float(known.min()), float(known.max()))
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    floor = 0.0 if low >= 0 else -math.inf  # what cannot be negative has no axis below 0
    least = LEAST_SPAN * max(abs(low), abs(high))
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        half = abs(high) / 2 or 0.5
        low, high = low - half, high + half
    elif high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    pad = margin * (high - low)
    low, high = max(low - pad, floor), high + pad
    labels = ticks(low, high, nice_step(high - low, parts), scale)
    return Axis(low, high, labels if len(labels) > 1 else ticks(low, high, nice_step(high - low, 2 * parts), scale))


def steps_axis(last: float) -> Axis:
    """The axis of optimizer steps, from 0 to the last."""
    high = max(float(last), 1.0)
    return Axis(0.0, high, ticks(0.0, high, nice_step(high, 5, least=1.0)))


def _log_axis(least: float, most: float) -> Axis:
    low, high = 10 ** (math.log10(least) - 0.05), 10 ** (math.log10(most) + 0.05)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if last - first > 3 else (1, 2, 5)  # noqa: PLR2004 - decades that have room for three labels each
    marks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    axis = Axis(low, high, is_log=True)
    shown = [Tick(round(axis.place(mark), 3), f"{mark:,g}") for mark in marks if low <= mark <= high]
    return Axis(low, high, shown, is_log=True)
