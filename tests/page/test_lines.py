"""Charts as geometry: where a value stands, what is kept of a long curve, what is said of it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from runyoro_ssl.page.amounts import figure, figures
from runyoro_ssl.page.axes import axis_of, steps_axis
from runyoro_ssl.page.dots import DotValue, dot_plot
from runyoro_ssl.page.lines import MAX_ROWS, NUM_COLUMNS, Curve, LineChart, Mark, line_chart, thin

NUM_LONG = 100_000


def chart(*curves: Curve, marks: tuple[Mark, ...] = (), is_log: bool = False) -> LineChart:
    """A chart of curves over steps."""
    return line_chart(
        "Loss", "nats", "", curves, figure=lambda value: figure(value, "nats"), marks=marks, is_log=is_log
    )


def curve(values: list[float], name: str = "training", *, has_dots: bool = False) -> Curve:
    """Values at the steps from 0 on."""
    return Curve(name, np.arange(len(values), dtype=np.float64), np.array(values), has_dots=has_dots)


def points(path: str) -> list[tuple[float, float]]:
    """The places that an SVG path goes through."""
    return [(float(left), float(top)) for left, top in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_path_goes_through_its_values() -> None:
    """From left to right over all steps; what is higher stands higher, with a margin."""
    (line,) = chart(curve([1.0, 3.0, 2.0])).lines
    (first, top, last) = points(line.path)
    assert [first[0], top[0], last[0]] == [0.0, 50.0, 100.0]
    assert 0 < top[1] < last[1] < first[1] < 100
    assert last[1] == pytest.approx((first[1] + top[1]) / 2, abs=0.01)


def test_what_is_no_number_is_a_gap() -> None:
    """The line ends before it, and begins anew; no number of the picture is NaN."""
    (line,) = chart(curve([1.0, 2.0, np.nan, np.inf, 2.0, 1.0])).lines
    assert re.sub(r"[\d. ]", "", line.path) == "MLML"
    assert "nan" not in line.path + line.summary


def test_curve_without_values_is_left_out() -> None:
    """A chart without any is there, and has nothing to draw."""
    drawn = chart(curve([1.0, 2.0]), curve([np.nan, np.nan], "held-out"))
    assert [line.name for line in drawn.lines] == ["training"]
    assert chart(curve([np.nan])).lines == ()


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], [0.0], [-3.0, -3.0], [1e-9, 2e-9], [1e12, 1.1e12]])
def test_odd_ranges_have_an_axis(values: list[float]) -> None:
    """A single value, equal ones, tiny and huge ones: each stands within, with labels; one point is a shape."""
    for is_log in (False, True):
        drawn = chart(curve(values), is_log=is_log)
        (line,) = drawn.lines
        assert all(0 <= top <= 100 for _, top in points(line.path))
        assert len(drawn.y_ticks) >= 2
        assert bool(line.dots) == (len(values) == 1)


@pytest.mark.parametrize("num_values", [3, NUM_LONG])
def test_long_curve_keeps_its_extremes_and_is_bounded(num_values: int) -> None:
    """Of any number of values: two for each column at most; a spike of a single step is still there, at its place."""
    values = np.random.default_rng(0).normal(size=num_values)
    values[num_values // 3] = 50.0
    steps = np.arange(num_values, dtype=np.float64)
    x, y = thin(steps, values)
    assert len(x) <= 2 * NUM_COLUMNS + 2
    assert (np.diff(x) > 0).all()
    assert (x[y.argmax()], y.max(), y.min()) == (num_values // 3, 50.0, values.min())
    assert (x[0], x[-1]) == (0, num_values - 1)
    assert np.array_equal(values[x.astype(int)], y)
    assert len(chart(Curve("training", steps, values)).rows) <= MAX_ROWS


def test_thinned_column_is_that_of_a_slow_reference() -> None:
    """Least and most of each column, by a loop over all values."""
    generator = np.random.default_rng(1)
    x = np.sort(generator.uniform(0, 1000, 5000))
    y = generator.normal(size=5000)
    y[generator.integers(0, 5000, 300)] = np.nan
    kept = dict(zip(*thin(x, y, 50), strict=True))
    columns: dict[int, list[float]] = {}
    for place, value in zip(x, y, strict=True):
        if np.isfinite(value):
            columns.setdefault(min(int(50 * (place - x[0]) / (x[-1] - x[0])), 49), []).append(value)
    expected = {extreme for values in columns.values() for extreme in (min(values), max(values))}
    assert expected <= set(kept.values())


def test_logarithmic_axis_shows_ratios() -> None:
    """A tenfold value is as far above as a tenth is below; a narrow range stays linear."""
    axis = axis_of(np.array([0.1, 1.0, 10.0]), is_log=True)
    low, middle, high = (axis.place(value) for value in (0.1, 1.0, 10.0))
    assert middle - low == pytest.approx(high - middle)
    assert "1" in {tick.text for tick in axis.ticks}
    assert not axis_of(np.array([1.0, 1.1]), is_log=True).is_log


def test_shares_have_labels_in_per_cent() -> None:
    """The values are shares, the labels are not; nothing that cannot be negative has an axis below 0."""
    axis = axis_of(np.array([0.0, 0.5]), scale=100.0)
    assert axis.low == 0.0
    assert {"0", "20", "40"} <= {tick.text for tick in axis.ticks}


@pytest.mark.parametrize(("low", "high"), [(0.971, 0.974), (4.5820, 4.5830), (-4.583, -4.582)])
def test_values_that_hardly_differ_do_not_fill_the_height(low: float, high: float) -> None:
    """A difference of some thousandths is a small part of the axis; both values are on it."""
    axis = axis_of(np.array([low, high]))
    assert 0 < axis.place(high) - axis.place(low) < 10
    assert len(axis.ticks) > 1


def test_an_axis_has_two_labels_at_least() -> None:
    """Though only one round number of the usual step is on it."""
    assert len(axis_of(np.array([0.42, 0.59]), parts=3, scale=100.0, margin=0.0).ticks) > 1


def test_labels_of_events_do_not_touch() -> None:
    """Those that nearly touch share one, near ones stand below each other; checkpoints stand on the axis."""
    marks = tuple(Mark(float(step), str(place), "") for place, step in enumerate((0, 1, 2, 7, 13, 50), 1))
    placed = chart(curve([0.0] * 101), marks=(*marks, Mark(1.0, "", "", "point"))).marks
    events = [one for one in placed if one.mark.kind == "event"]
    assert [one.label for one in events] == ["", "", "1\N{EN DASH}3", "4", "5", "6"]
    assert [one.row for one in events if one.label] == [0, 1, 0, 0]
    assert sorted(one.at for one in events) == [steps_axis(100).place(mark.x) for mark in marks]


def test_curve_in_words_has_its_ends_and_extremes() -> None:
    """With steps; an extreme that is an end is not told twice."""
    drawn = chart(curve([4.5, 3.0, 3.5]), curve([2.0, 2.0], "even"))
    assert drawn.summary == (
        "Training: from 4.50 nats at step 0 to 3.50 nats at step 2, lowest 3.00 nats at step 1. "
        "Even: 2.00 nats throughout."
    )


def test_table_has_the_last_number_at_or_before_each_step() -> None:
    """Its rows are the places of the curve with few values."""
    few = Curve("held-out", np.array([0.0, 2.5]), np.array([4.0, np.nan]), has_dots=True)
    drawn = chart(curve([1.0, 2.0, 3.0, 4.0]), few)
    assert drawn.header == ["step", "training", "held-out"]
    assert drawn.rows == [["0", "1.00 nats", "4.00 nats"], ["2", "3.00 nats", "not measured"]]


def test_whisker_reaches_from_end_to_end() -> None:
    """Dot and whisker stand where the axis says; what was not measured has neither."""
    values = [DotValue("base", "circle", 0.5, 0.4, 0.7), DotValue("adapted", "disc", None), DotValue("x", "disc", 0.2)]
    plot = dot_plot(values, "%")
    base, adapted, other = plot.rows
    assert base.at is not None
    assert base.left is not None
    assert base.left < base.at < base.left + base.width
    assert (base.at - base.left) * 2 == pytest.approx(base.left + base.width - base.at, abs=0.05)
    assert (adapted.at, adapted.left, adapted.text) == (None, None, "not measured")
    assert (other.left, other.interval) == (None, "")
    assert plot.summary == "base 50.0 %, 40.0 to 70.0; adapted not measured; x 20.0 %"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "nats", "not measured"),
        (float("nan"), "%", "not measured"),
        (float("inf"), "", "not measured"),
        (0.2724, "%", "27.2 %"),
        (0.0031, "%", "0.31 %"),
        (3.6049, "nats", "3.60 nats"),
        (5e-5, "", "0.00005"),
        (-5e-5, "", "\N{MINUS SIGN}0.00005"),
        (0.0, "nats", "0 nats"),
        (12345.6, "", "12,346"),
    ],
)
def test_figures_as_people_read_them(value: float | None, unit: str, text: str) -> None:
    """Three digits and a unit; shares in per cent; never "nan"."""
    assert figure(value, unit) == text


def test_numbers_of_an_interval_have_equal_decimals() -> None:
    """And, as differences, their signs."""
    assert figures((0.9, 0.1, 1.7), is_signed=True) == ["+0.90", "+0.10", "+1.70"]
    assert figures((-0.012, 0.03), "%") == ["\N{MINUS SIGN}1.2", "3.0"]
