"""Values with their intervals as dots and whiskers on one axis, in per cent of it; `charts.html.jinja` draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

import numpy as np

from runyoro_ssl.page.amounts import figure, figures
from runyoro_ssl.page.axes import Axis, Tick, axis_of
from runyoro_ssl.page.lines import NOT_MEASURED

Shape = Literal["circle", "disc", "square", "diamond"]
"""A ring, a filled one, a square, a diamond: told apart without colour."""
LONG_NAME = 10
"""Characters beyond which names have a wider column."""


@dataclass(frozen=True)
class DotValue:
    """A value and the ends of its interval, with a name; what is None, or no number, was not measured."""

    name: str
    shape: Shape
    value: float | None
    low: float | None = None
    high: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class DotRow:
    """A drawn value: places in per cent; `at` is None where there is none, `left` and `width` where no interval is."""

    name: str
    shape: Shape
    at: float | None
    left: float | None
    width: float
    text: str
    interval: str
    remark: str


@dataclass(frozen=True)
class DotPlot:
    """Rows on one axis. `summary` says them in words."""

    rows: Sequence[DotRow]
    ticks: Sequence[Tick]
    summary: str
    has_long_names: bool


def dot_plot(values: Sequence[DotValue], unit: str) -> DotPlot:
    """Draw values on an axis that holds them all, and their intervals. A unit of "%" shows shares in per cent."""
    scale = 100.0 if unit == "%" else 1.0
    ends = [end for one in values for end in (one.value, one.low, one.high) if _is_known(end)]
    axis = axis_of(np.array(ends, dtype=np.float64), parts=3, scale=scale, margin=0.07)
    rows = [_row(one, axis, unit) for one in values]
    said = "; ".join(f"{row.name} {row.text}{f', {row.interval}' if row.interval else ''}" for row in rows)
    return DotPlot(rows, axis.ticks, said, any(len(row.name) > LONG_NAME for row in rows))


def _row(one: DotValue, axis: Axis, unit: str) -> DotRow:
    if not _is_known(one.value):
        return DotRow(one.name, one.shape, None, None, 0.0, NOT_MEASURED, "", one.remark)
    at = round(axis.place(one.value), 2)
    low, high = one.low, one.high
    if not (_is_known(low) and _is_known(high)):
        return DotRow(one.name, one.shape, at, None, 0.0, figure(one.value, unit), "", one.remark)
    left, width = round(axis.place(low), 2), round(axis.place(high) - axis.place(low), 2)
    interval = " to ".join(figures((low, high), unit))
    return DotRow(one.name, one.shape, at, left, width, figure(one.value, unit), interval, one.remark)


def _is_known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
