"""The measures of an evaluation as the page shows them: by family, a dot and a whisker for each that was compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from runyoro_ssl.evaluate.record import (
    ADAPTED,
    BASE,
    LOG_MEL,
    RANDOM,
    SUBJECTS,
    Evaluation,
    MeasureFamily,
    ModelMeasure,
)
from runyoro_ssl.page.amounts import amount_of_time, figure, figures, number, plural
from runyoro_ssl.page.dots import DotPlot, DotValue, Shape, dot_plot
from runyoro_ssl.publish.changes import BETTER, LABELS, ChangeOf, change_of, way_of

SHAPES: Mapping[str, Shape] = {BASE: "circle", ADAPTED: "disc", LOG_MEL: "square", RANDOM: "diamond"}
FAMILIES: Mapping[MeasureFamily, tuple[str, str]] = {
    "fit": ("Does it fit your speech?", "How well each model guesses hidden stretches of speech it never heard."),
    "forgetting": (
        "Did it forget?",
        "The same guessing game in another language: the adapted model should not lose much.",
    ),
    "memory": (
        "Did it learn by heart?",
        "Speech it trained on beside speech it did not: a wide gap is memory, not learning.",
    ),
    "geometry": ("How rich are its features?", "Collapsed features use few directions; this shows a collapse first."),
    "units": (
        "What sounds does it find?",
        "Features sorted into a hundred units, as sounds: steady ones, and no one's voice.",
    ),
    "retrieval": ("Does it find the same again?", "A snippet with noise, or faster, is looked for among all others."),
    "phones": ("Does it tell the sounds of the language apart?", "With the phones of aligned speech."),
    "text": (
        "Can text be read off it?",
        "With transcripts: letters, by a small reader that learns from minutes of speech.",
    ),
    "change": ("How much did it change?", "Shown, and never judged: a change is neither good nor bad."),
}


@dataclass(frozen=True)
class ShownMeasure:
    """A measure as it is drawn, and how it changed."""

    key: str
    words: str
    better: str
    plot: DotPlot
    change: ChangeOf
    label: str
    sentence: str
    is_labelled: bool
    source: str


@dataclass(frozen=True)
class ShownFamily:
    """A family of measures; `rows` are the numbers behind its pictures."""

    key: MeasureFamily
    title: str
    lead: str
    measures: Sequence[ShownMeasure]
    header: Sequence[str] = ("measure", *SUBJECTS, "adapted less base", "drawn for intervals")
    rows: Sequence[Sequence[str]] = field(default=())


def shown_families(evaluation: Evaluation) -> list[ShownFamily]:
    """The measures that were made, in the order of the families."""
    found = []
    for family in get_args(MeasureFamily):
        measures = [measure for measure in evaluation.measures if measure.family == family]
        if measures:
            title, lead = FAMILIES[family]
            rows = [_row(measure) for measure in measures]
            found.append(ShownFamily(family, title, lead, [_show(measure) for measure in measures], rows=rows))
    return found


def _show(measure: ModelMeasure) -> ShownMeasure:
    change = change_of(measure)
    values = [
        _measured(measure, subject)
        for subject in SUBJECTS
        if subject in measure.values or subject in (BASE, ADAPTED)
    ]  # fmt: skip
    plot, sentence = dot_plot(values, measure.unit), _sentence(measure, change)
    better = BETTER[way_of(measure.key, measure.better)]
    return ShownMeasure(
        *(measure.key, measure.words, better, plot, change, LABELS[change], sentence),
        is_labelled=measure.is_labelled,
        source=measure.source,
    )


def _measured(measure: ModelMeasure, subject: str) -> DotValue:
    interval = measure.intervals.get(subject)
    layer = f"layer {measure.layers[subject]}" if subject in measure.layers else ""
    low, high = (interval.low, interval.high) if interval else (None, None)
    return DotValue(subject, SHAPES[subject], measure.values.get(subject), low, high, layer)


def _sentence(measure: ModelMeasure, change: ChangeOf) -> str:
    """What the difference says, with its interval."""
    if change == "unknown" or measure.difference_interval is None or measure.difference is None:
        return "Whether it changed was not measured."
    said = f"Adapted less base: {_difference(measure)}."
    if change == "unclear":
        return f"{said} The interval holds 0: chance alone may give as much."
    if change == "small":
        return f"{said} The interval does not hold 0, but another seed may make as much."
    how = {"better": "it changed, for the better", "worse": "it changed, for the worse", "changed": "it changed"}[
        change
    ]
    return f"{said} The interval does not hold 0: {how}."


def _difference(measure: ModelMeasure) -> str:
    """The difference with its sign, its unit and its interval; of shares in points of per cent."""
    unit, interval = "points" if measure.unit == "%" else measure.unit, measure.difference_interval
    if measure.difference is None or not math.isfinite(measure.difference):
        return figure(None)
    if interval is None or not all(map(math.isfinite, (interval.low, interval.high))):
        return f"{figures([measure.difference], measure.unit, is_signed=True)[0]} {unit}".rstrip()
    values = (measure.difference, interval.low, interval.high)
    difference, low, high = figures(values, measure.unit, is_signed=True)
    return f"{' '.join(filter(None, (difference, unit)))} ({low} to {high})"


def _row(measure: ModelMeasure) -> list[str]:
    values = (_with_interval(measure, subject) for subject in SUBJECTS)
    return [measure.words, *values, _difference(measure), number(measure.num_groups) if measure.num_groups else "none"]


def _with_interval(measure: ModelMeasure, subject: str) -> str:
    value, interval = figure(measure.values.get(subject), measure.unit), measure.intervals.get(subject)
    if interval is None or subject not in measure.values:
        return value
    return f"{value} ({' to '.join(figures((interval.low, interval.high), measure.unit))})"


def what_was_heard(evaluation: Evaluation) -> list[str]:
    """Sentences on the speech that was heard, and on what the intervals hold for."""
    speech = evaluation.speech
    who = f" of {plural(speech.speakers, 'speaker')}" if speech.speakers else ""
    heard = (
        f"{amount_of_time(speech.seconds)} of held-out speech in {plural(speech.clips, 'clip')}, from "
        f"{plural(speech.recordings, 'recording')}{who}{_of(speech.languages)}."
    )
    over, kind = evaluation.drawn, speech.intervals_over
    drawn = (
        f"The 95 % intervals come from drawing {over} again and again, as many as a measure has: they say what other "
        f"{kind} like these would give."
        if over
        else f"There are no intervals: {number(speech.num_groups)} {kind} are too few."
    )
    said = [heard, drawn]
    if speech.refused is None:
        said.append("Whether a model was trained on some of it could not be checked: its dataset was not found.")
    elif speech.refused:
        said.append(f"{plural(speech.refused, 'clip')} left out, as one of the models was trained on them.")
    if evaluation.seconds:
        said.append(f"It took {amount_of_time(evaluation.seconds)}.")
    return said


def _of(languages: Sequence[str]) -> str:
    return f", in {', '.join(languages)}" if languages else ""
