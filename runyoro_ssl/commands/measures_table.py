"""The table of an evaluation's measures, laid out for the width that there is: no number is ever broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from runyoro_ssl.evaluate.record import ADAPTED, BASE, LOG_MEL, RANDOM, ModelMeasure
from runyoro_ssl.page.amounts import figure, figures

NONE = "-"
EDGES = 3
"""Columns that the frame takes for each column of the table; one more at the end."""
NARROWEST = 10
"""Columns of a short name."""
WIDE_NAMES, NARROW_NAMES = 40, 28
"""Columns that names of measures need, unless the longest is shorter, for intervals to stand beside their difference,
and for log-mel and random to stand beside the two models."""


class LaidOut(NamedTuple):
    """A table to print: its columns, of which only the first may be broken, and its rows."""

    columns: list[str]
    rows: list[list[str]]


def lay_out(measures: Sequence[ModelMeasure], width: int) -> list[LaidOut]:
    """All on one line where it is wide enough; else intervals below their differences; else two tables.

    `width`: in columns. The second table has log-mel spectra and random weights, of the measures that they have.
    """
    both = [BASE, ADAPTED, "difference"]
    wide = _table(measures, [*both, LOG_MEL, RANDOM], " ")
    if _for_names(wide, width) >= _least(wide, WIDE_NAMES):
        return [wide]
    below = _table(measures, [*both, LOG_MEL, RANDOM], "\n")
    if _for_names(below, width) >= _least(below, NARROW_NAMES):
        return [below]
    others = [one for one in measures if one.values.keys() & {LOG_MEL, RANDOM}]
    return [_table(measures, both, "\n"), *([_table(others, [LOG_MEL, RANDOM], "\n")] if others else [])]


def lay_out_models(
    models: Mapping[tuple[str, str], Mapping[str, float]], measures: Sequence[ModelMeasure], width: int
) -> Iterator[LaidOut]:
    """A row for each model: its name, what is said of it, its measures; a further table where these do not fit.

    `models`: by name and what is said of it, their values by key of the measure.
    """
    names = max([len(name) for name, _ in models] + [NARROWEST]) + EDGES
    said = max([len(text) for _, text in models] + [len("beside")]) + EDGES
    left, chosen = list(measures), list[ModelMeasure]()
    while left:
        room = width - names - said - 1
        while left and (not chosen or room >= _column(left[0], models)):
            room -= _column(left[0], models)
            chosen.append(left.pop(0))
        yield LaidOut(
            ["model", "beside what is kept else", *map(name_of, chosen)],
            [
                [name, text, *(value_of(one, values.get(one.key)) for one in chosen)]
                for (name, text), values in models.items()
            ],
        )
        chosen = []


def _column(measure: ModelMeasure, models: Mapping[tuple[str, str], Mapping[str, float]]) -> int:
    """Columns that a measure needs for its values, and for the longest word of its name."""
    values = [value_of(measure, values.get(measure.key)) for values in models.values()]
    return max(map(len, [*values, *name_of(measure).split()])) + EDGES


def value_of(measure: ModelMeasure, value: float | None) -> str:
    """A value in three digits, in per cent where that is its unit."""
    if value is None:
        return NONE
    return figure(value, "%") if measure.unit == "%" else figure(value)


def name_of(measure: ModelMeasure) -> str:
    """What was measured, with its unit."""
    return f"{measure.words}, {measure.unit}" if measure.unit and measure.unit != "%" else measure.words


def _table(measures: Sequence[ModelMeasure], columns: Sequence[str], between: str) -> LaidOut:
    cells: dict[str, Callable[[ModelMeasure], str]] = {"difference": lambda one: _difference(one, between)}
    rows = [
        [
            name_of(one),
            *(cells[name](one) if name in cells else value_of(one, one.values.get(name)) for name in columns),
        ]
        for one in measures
    ]
    return LaidOut(["measure", *columns], rows)


def _for_names(table: LaidOut, width: int) -> int:
    """Columns that are left for the first column."""
    lines = [[line for row in [table.columns, *table.rows] for line in row[at].split("\n")] for at in _numbers(table)]
    return width - sum(max(map(len, found)) for found in lines) - EDGES * len(table.columns) - 1


def _numbers(table: LaidOut) -> range:
    return range(1, len(table.columns))


def _least(table: LaidOut, width: int) -> int:
    return min(width, max((len(row[0]) for row in table.rows), default=0))


def _difference(measure: ModelMeasure, between: str) -> str:
    """Adapted less base; of shares in points of per cent. `between`: what stands before the interval."""
    if measure.difference is None:
        return NONE
    points, interval = " points" if measure.unit == "%" else "", measure.difference_interval
    edges = (interval.low, interval.high) if interval else ()
    difference, *told = figures((measure.difference, *edges), measure.unit, is_signed=True)
    return f"{difference}{points}" + (f"{between}({told[0]} to {told[1]})" if told else "")
