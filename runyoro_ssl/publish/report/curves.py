"""The training curves of a run, with what happened on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from runyoro_ssl.page.amounts import figure
from runyoro_ssl.page.axes import Axis, steps_axis
from runyoro_ssl.page.lines import Curve, LineChart, Mark, Style, line_chart
from runyoro_ssl.publish.report.found import FoundRun

LoggedAs = tuple[str, str, Style, bool]
"""Name among the logged numbers, name for people, style, and whether its few values are shapes, too."""


@dataclass(frozen=True)
class Picture:
    """A chart of the training: what it shows, how it is read, and from which numbers."""

    title: str
    unit: str
    hint: str
    sources: tuple[LoggedAs, ...]
    shown_in: str = ""
    is_log: bool = False


PICTURES = (
    Picture(
        "Loss",
        "nats per hidden frame",
        "How badly the model guesses hidden stretches of speech: lower is better. Held-out speech is what counts.",
        (
            ("train/contrastive_loss", "training", "first", False),
            ("eval/contrastive_loss", "held-out", "second", True),
            ("eval/chance_loss", "by guessing", "third", False),
        ),
        "nats",
    ),
    Picture(
        "Accuracy",
        "% of hidden frames",
        "How often the true frame is picked among others: higher is better.",
        (("train/accuracy", "training", "first", False), ("eval/accuracy", "held-out", "second", True)),
        "%",
    ),
    Picture(
        "Sounds told apart",
        "codebook perplexity",
        "How many codes are in use. A fall to next to nothing is a collapse, whatever the loss says. Training counts "
        "codes as likely as they are; held-out speech counts those that are chosen, which are fewer.",
        (("train/soft_perplexity", "training", "first", False), ("eval/hard_perplexity", "held-out", "second", True)),
    ),
    Picture(
        "Learning rate",
        "",
        "How large the steps are: up in the warm-up, then down, unless the run was set to keep its peak.",
        (("train/learning_rate", "learning rate", "first", False),),
    ),
    Picture(
        "Gradient norm",
        "before clipping",
        "How strongly the speech of each step pulls at the weights. Single spikes are usual; a steady rise is not.",
        (("train/grad_norm", "gradient norm", "first", False),),
        is_log=True,
    ),
)


def training_curves(run: FoundRun, more: Sequence[Picture] = ()) -> list[LineChart]:
    """The charts of a run, all over the same steps; those of which nothing was logged are there, and say so.

    `more`: pictures that not every run has; they stand second.
    """
    axis, marks = steps_axis(max(run.step, 1)), run.course.marks(run.best_step)
    pictures = [*PICTURES[:1], *more, *PICTURES[1:]]
    return [_draw(picture, run, axis, partial(figure, unit=picture.shown_in), marks) for picture in pictures]


def _draw(picture: Picture, run: FoundRun, axis: Axis, write: Callable[[float], str], marks: list[Mark]) -> LineChart:
    nothing = (np.empty(0), np.empty(0))
    curves = [
        Curve(words, *run.logged.get(name, nothing), style=style, has_dots=has_dots)
        for name, words, style, has_dots in picture.sources
    ]
    return line_chart(
        picture.title,
        picture.unit,
        picture.hint,
        curves,
        figure=write,
        x_axis=axis,
        marks=marks,
        scale=100.0 if picture.shown_in == "%" else 1.0,
        is_log=picture.is_log,
    )
