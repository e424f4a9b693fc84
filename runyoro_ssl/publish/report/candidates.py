"""Curves by layer, and the models that could be kept: checkpoints by step, mixtures side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from runyoro_ssl.evaluate.record import (
    ADAPTED,
    BASE,
    BY_LOSS,
    LOG_MEL,
    RANDOM,
    TO_KEEP,
    Better,
    Evaluation,
    LayerCurve,
)
from runyoro_ssl.page.amounts import figure, number
from runyoro_ssl.page.axes import Axis, nice_step, ticks
from runyoro_ssl.page.dots import DotPlot, DotValue, dot_plot
from runyoro_ssl.page.lines import Curve, LineChart, Mark, Style, line_chart
from runyoro_ssl.publish.changes import BETTER, way_of

STYLES: Mapping[str, Style] = {ADAPTED: "first", BASE: "second", LOG_MEL: "third", RANDOM: "fourth"}
MAX_MEASURES = 12
MAX_MIXTURES = 24
"""What more there is stands in the table alone."""
MAX_LISTED = 200
LOSSES = ("fit.below_guessing", "fit.contrastive_loss")
LIKENESS = "change.cka"
OTHER_DISTANCE = "phones.abx_within_pooled"


@dataclass(frozen=True)
class Compared:
    """A measure of the models that could be kept: its words, its curve over checkpoints, mixtures on one axis."""

    words: str
    better: str
    chart: LineChart | None
    mixtures: DotPlot | None


@dataclass(frozen=True)
class CandidatesShown:
    """Which model to keep: pictures, what is best by what, and all numbers."""

    compared: Sequence[Compared]
    sentences: Sequence[str]
    header: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default=())
    has_star: bool = False


def layer_charts(evaluation: Evaluation) -> list[LineChart]:
    """A small chart for each measure by layer; log-mel spectra, which have none, are a line across."""
    return [_by_layer(curve) for curve in evaluation.curves]


def _by_layer(curve: LayerCurve) -> LineChart:
    depths = (max(curve.at.get(name, ()), default=len(values) - 1) + 1 for name, values in curve.values.items())
    depth = max(depths, default=1)
    last = max(depth - 1, 1)
    axis = Axis(0.0, float(last), ticks(0.0, float(last), nice_step(float(last), 6, least=1.0)))
    drawn = [
        Curve(
            *(subject, *_over_layers(values, curve.at.get(subject), last)),
            style=STYLES[subject],
            has_dots=len(values) > 1,
        )
        for subject, values in curve.values.items()
        if subject in STYLES and len(values)
    ]
    write = partial(figure, unit=curve.unit)
    return line_chart(
        *(curve.words, "" if curve.unit == "%" else curve.unit, _how_to_read(curve), drawn),
        figure=write,
        x_name="layer",
        x_axis=axis,
        scale=100.0 if curve.unit == "%" else 1.0,
        also=(0.0, 1.0) if curve.key == LIKENESS else (),
    )


def _how_to_read(curve: LayerCurve) -> str:
    """Which way is good, how it differs from the reported figure, and which layers it is of, where not of all."""
    said = [BETTER[way_of(curve.key, curve.better)]]
    if curve.key == OTHER_DISTANCE:
        said.append(
            "Another distance than that of the reported error, which aligns the frames: look at its course, not at its "
            "level."
        )
    if curve.at:
        layers = sorted({layer for of in curve.at.values() for layer in of})
        said.append(f"Measured at layers {', '.join(map(str, layers))} alone.")
    return " ".join(said)


def _over_layers(values: Sequence[float], at: Sequence[int] | None, last: int) -> tuple[np.ndarray, np.ndarray]:
    if len(values) == 1:
        return np.array([0.0, float(last)]), np.array([values[0], values[0]], dtype=np.float64)
    return np.array(at or range(len(values)), dtype=np.float64), np.array(values, dtype=np.float64)


def choice_of(evaluation: Evaluation) -> CandidatesShown | None:
    """What an evaluation of several candidates says; None where there is none."""
    candidates = evaluation.candidates
    if not candidates:
        return None
    keys = list(dict.fromkeys(key for one in candidates for key in one.values))
    compared = [_compare(evaluation, key) for key in keys[:MAX_MEASURES]]
    rows = [
        [one.name, *(figure(one.values.get(key), _about(evaluation, key)[1]) for key in keys)] for one in candidates
    ]
    header = ["model", *(_about(evaluation, key)[0] for key in keys)]
    has_star = any(_star(evaluation, key) for key in keys)
    return CandidatesShown(compared, _which_is_best(evaluation), header, rows[:MAX_LISTED], has_star)


def _compare(evaluation: Evaluation, key: str) -> Compared:
    words, unit, better = _about(evaluation, key)
    write, scale = partial(figure, unit=unit), 100.0 if unit == "%" else 1.0
    kept = [one for one in evaluation.candidates if one.kind == "checkpoint" and one.step is not None]
    steps = sorted((float(one.step or 0), one.values.get(key, math.nan)) for one in kept)
    mixtures = [one for one in evaluation.candidates if one not in kept][:MAX_MIXTURES]
    chart = None
    if steps:
        x, y = (np.array(part, dtype=np.float64) for part in zip(*steps, strict=True))
        chart = line_chart(
            *(
                words,
                "" if unit == "%" else unit,
                BETTER[way_of(key, better)],
                [Curve("checkpoints", x, y, has_dots=True)],
            ),
            figure=write,
            x_axis=_steps(x),
            marks=_star(evaluation, key),
            scale=scale,
        )
    dots = [DotValue(one.name, "diamond", one.values.get(key)) for one in mixtures]
    return Compared(words, BETTER[way_of(key, better)], chart, dot_plot(dots, unit) if dots else None)


def _about(evaluation: Evaluation, key: str) -> tuple[str, str, Better]:
    """The words, the unit and the good way of a measure, by its key."""
    for known in (evaluation.get(key), next((curve for curve in evaluation.curves if curve.key == key), None)):
        if known is not None:
            return known.words, known.unit, way_of(key, known.better)
    return key.replace(".", ": ").replace("_", " "), "", "neither"


def _steps(x: np.ndarray) -> Axis:
    """From the first to the last checkpoint, with room on both sides."""
    room = 0.06 * float(x[-1] - x[0]) or 1.0
    low, high = max(float(x[0]) - room, 0.0), float(x[-1]) + room
    return Axis(low, high, ticks(low, high, nice_step(high - low, 5, least=1.0)))


def _star(evaluation: Evaluation, key: str) -> list[Mark]:
    """A star on the checkpoint with the best held-out loss, in the picture of that loss alone."""
    if key != loss_of(evaluation):
        return []
    name = evaluation.best.get(BY_LOSS)
    best = [one for one in evaluation.candidates if one.name == name and one.step is not None and key in one.values]
    return [
        Mark(float(one.step or 0), "", f"Step {number(one.step or 0)}: best by {BY_LOSS}", "star", one.values[key])
        for one in best
        if one.kind == "checkpoint"
    ]


def loss_of(evaluation: Evaluation) -> str:
    """The measure by which candidates have their held-out loss: beside guessing, where that is known."""
    known = {key for one in evaluation.candidates for key in one.values}
    return next((key for key in LOSSES if key in known), "")


def _which_is_best(evaluation: Evaluation) -> list[str]:
    by_loss, to_keep = evaluation.best.get(BY_LOSS), evaluation.best.get(TO_KEEP)
    same = [f"{one.name} has the weights of {one.same_as}." for one in evaluation.candidates if one.same_as]
    least = [f"Least held-out loss: {by_loss}."] if by_loss else []
    if to_keep is None:
        return ["Which one to keep was not decided.", *least, *same]
    return [f"To keep: {to_keep}; {evaluation.why_kept}.", *least, *same]
