"""DrawnCurve charts as geometry, in per cent of the drawing area; `charts.html.jinja` draws them.

However many values a curve has, what is drawn of it is bounded: the least and the most of each column of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from runyoro_ssl.page.amounts import number
from runyoro_ssl.page.axes import Axis, Tick, axis_of, steps_axis

Style = Literal["first", "second", "third", "fourth"]
"""Colour, dashes and shape of a curve, so that none needs its colour to be told from the others."""
NUM_COLUMNS = 400
"""Columns of a picture: about the pixels that a chart is wide."""
MAX_ROWS = 24
"""Of the table of numbers behind a chart."""
MAX_DOTS = 60
"""Values of a curve that are drawn as shapes, too."""
TOUCH_PERCENT, LABEL_PERCENT = 5.0, 12.0
"""Events nearer to each other share a label; labels that are nearer stand one below the other."""
NUM_ROWS = 3
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Curve:
    """What is to be drawn: float64 (N,) values over ascending float64 (N,) places; NaN is a gap."""

    name: str
    x: np.ndarray
    y: np.ndarray
    style: Style = "first"
    has_dots: bool = False
    """Each value is a shape, too: for curves of few values."""


@dataclass(frozen=True)
class Mark:
    """Something that happened at a place of the horizontal axis: a line with a label, or a shape.

    A shape stands on the axis, or at the value `y`, where that is given.
    """

    x: float
    label: str
    words: str
    kind: Literal["event", "point", "star"] = "event"
    y: float | None = None


@dataclass(frozen=True)
class DrawnCurve:
    """A drawn curve: the path of an SVG of 100 by 100, and the places of its shapes from the left and the top."""

    name: str
    style: Style
    path: str
    dots: Sequence[tuple[float, float]]
    summary: str


@dataclass(frozen=True)
class PlacedMark:
    """A mark where it is drawn; `row` is 0 at the top. `label` is empty where another one speaks for it.

    `top`: how far from the top a shape stands, in per cent; None: on the axis.
    """

    at: float
    row: int
    label: str
    mark: Mark
    top: float | None = None


@dataclass(frozen=True)
class LineChart:
    """A drawn chart. Without lines: no value is known. `rows` are the numbers behind it, as text."""

    title: str
    unit: str
    hint: str
    x_name: str
    summary: str = ""
    lines: Sequence[DrawnCurve] = ()
    marks: Sequence[PlacedMark] = ()
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=())


def line_chart(
    title: str,
    unit: str,
    hint: str,
    curves: Sequence[Curve],
    *,
    figure: Callable[[float], str],
    x_name: str = "step",
    x_axis: Axis | None = None,
    marks: Sequence[Mark] = (),
    scale: float = 1.0,
    is_log: bool = False,
    also: Sequence[float] = (),
) -> LineChart:
    """Draw curves over one axis; curves without any value are left out.

    Args:
        title: What is shown.
        unit: Of the vertical axis, for people.
        hint: How to read it, in a sentence.
        curves: What is drawn.
        figure: Writes a value with its unit.
        x_name: What the horizontal axis counts.
        x_axis: Where the curves stand; from 0 to the last place if it is not given.
        marks: What happened on the way.
        scale: What the labels of the vertical axis are multiplied by: 100 for per cent.
        is_log: The vertical axis shows ratios, where the range is wide enough.
        also: Values that the vertical axis holds, too: 0 and 1, for shares that are near each other.
    """
    known = [curve for curve in curves if np.isfinite(curve.y).any()]
    if not known:
        return LineChart(title, unit, hint, x_name)
    x_axis = x_axis or steps_axis(max(float(curve.x[-1]) for curve in known))
    y_axis = axis_of(np.concatenate([*(curve.y for curve in known), also]), scale=scale, is_log=is_log)
    lines = [_line(curve, x_axis, y_axis, figure, x_name) for curve in known]
    return LineChart(
        title,
        unit,
        hint,
        x_name,
        summary=" ".join(f"{line.name[:1].upper()}{line.name[1:]}: {line.summary}." for line in lines),
        lines=lines,
        marks=_place_marks(marks, x_axis, y_axis),
        x_ticks=x_axis.ticks,
        y_ticks=y_axis.ticks,
        header=[x_name, *(curve.name for curve in known)],
        rows=_rows(known, figure),
    )


def thin(x: np.ndarray, y: np.ndarray, columns: int = NUM_COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Keep of float64 (N,) values over ascending places the least and the most of each column, and gaps.

    Returns (M,) places and values, M <= 2 columns + 2. A spike of one value among 100,000 is still there, at its place.
    """
    if len(x) <= 2 * columns:
        return x, y
    column = np.minimum((columns * (x - x[0]) / ((x[-1] - x[0]) or 1.0)).astype(int), columns - 1)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    kept: list[int] = [0, len(x) - 1]
    for start, end in zip(starts, [*starts[1:], len(x)], strict=True):
        part = y[start:end]
        finite = np.flatnonzero(np.isfinite(part))
        if len(finite):
            kept += [int(start + finite[find(part[finite])]) for find in (np.argmin, np.argmax)]
        else:
            kept.append(int(start))
    order = np.unique(kept)
    return x[order], y[order]


def describe(curve: Curve, figure: Callable[[float], str], x_name: str) -> str:
    """A curve in words: where it begins and ends, and its extremes where they are elsewhere."""
    known = np.flatnonzero(np.isfinite(curve.y))
    first, last = known[0], known[-1]
    at = [f"{x_name} {number(float(x))}" for x in curve.x]
    if first == last:
        return f"{figure(float(curve.y[first]))} at {at[first]}"
    if np.ptp(curve.y[known]) == 0:
        return f"{figure(float(curve.y[first]))} throughout"
    said = f"from {figure(float(curve.y[first]))} at {at[first]} to {figure(float(curve.y[last]))} at {at[last]}"
    for word, extreme in (("lowest", known[curve.y[known].argmin()]), ("highest", known[curve.y[known].argmax()])):
        if extreme not in (first, last):
            said += f", {word} {figure(float(curve.y[extreme]))} at {at[extreme]}"
    return said


def _line(curve: Curve, x_axis: Axis, y_axis: Axis, figure: Callable[[float], str], x_name: str) -> DrawnCurve:
    x, y = thin(curve.x, curve.y)
    left, top = x_axis.places(x), 100 - y_axis.places(y)
    parts, is_open = [], False
    for a, b in zip(left, top, strict=True):
        if not np.isfinite(b):
            is_open = False
            continue
        parts.append(f"{'L' if is_open else 'M'}{a:.2f} {b:.2f}")
        is_open = True
    few = curve.has_dots and len(x) <= MAX_DOTS
    lonely = len(parts) == 1  # a path of one point draws nothing
    dots = [
        (round(float(a), 2), round(float(b), 2))
        for a, b in zip(left, top, strict=True)
        if np.isfinite(b) and (few or lonely)
    ]
    return DrawnCurve(curve.name, curve.style, "".join(parts), dots, describe(curve, figure, x_name))


def _place_marks(marks: Sequence[Mark], axis: Axis, y_axis: Axis) -> list[PlacedMark]:
    """Marks from the left. Events that nearly touch share a label, "3-5"; labels that would stand in other rows."""
    placed = [
        PlacedMark(round(axis.place(mark.x), 2), 0, mark.label, mark, _top(mark, y_axis))
        for mark in sorted(marks, key=_by_place)
    ]
    events = [one for one in placed if one.mark.kind == "event"]
    others, ends, told = [one for one in placed if one not in events], [-LABEL_PERCENT] * NUM_ROWS, []
    while events:
        near = [one for one in events if one.at - events[0].at < TOUCH_PERCENT]
        label = near[0].label if len(near) == 1 else f"{near[0].label}\N{EN DASH}{near[-1].label}"
        row = next((row for row, end in enumerate(ends) if near[0].at - end >= LABEL_PERCENT), ends.index(min(ends)))
        ends[row] = near[0].at
        told += [replace(near[0], row=row, label=label), *(replace(one, row=row, label="") for one in near[1:])]
        events = events[len(near) :]
    told.sort(key=lambda one: bool(one.label))  # no line is drawn over a label
    return told + others


def _top(mark: Mark, axis: Axis) -> float | None:
    return None if mark.y is None else round(100 - axis.place(mark.y), 2)


def _by_place(mark: Mark) -> float:
    return mark.x


def _rows(curves: Sequence[Curve], figure: Callable[[float], str]) -> list[list[str]]:
    """A table of up to MAX_ROWS places, evenly spread over those of the curves with few values, if there are any."""
    of = [curve for curve in curves if curve.has_dots] or curves
    places = np.unique(np.concatenate([curve.x for curve in of]))
    if len(places) > MAX_ROWS:
        places = places[np.unique(np.linspace(0, len(places) - 1, MAX_ROWS).round().astype(int))]
    return [[number(float(at)), *(_value_at(curve, float(at), figure) for curve in curves)] for at in places]


def _value_at(curve: Curve, at: float, figure: Callable[[float], str]) -> str:
    """The last value at or before a place."""
    index = int(np.searchsorted(curve.x, at, side="right")) - 1
    value = float(curve.y[index]) if index >= 0 else np.nan
    return figure(value) if np.isfinite(value) else NOT_MEASURED
