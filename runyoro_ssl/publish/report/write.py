"""Write report.html: the verdict first, then the speech, the recipe, the course, the measures, and what is next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from runyoro_ssl.disk.durable import replace_file
from runyoro_ssl.evaluate.record import ADAPTED, LOG_MEL, Evaluation, read_evaluation
from runyoro_ssl.evaluate.words import verdict as course_of_loss
from runyoro_ssl.page.amounts import amount_of_time, figure, number, plural
from runyoro_ssl.page.render import Tile, render_page
from runyoro_ssl.publish.report.advice import suggestions
from runyoro_ssl.publish.report.candidates import choice_of, layer_charts
from runyoro_ssl.publish.report.curves import training_curves
from runyoro_ssl.publish.report.data import TrainedOn, describe_data
from runyoro_ssl.publish.report.events import others
from runyoro_ssl.publish.report.final import final_of
from runyoro_ssl.publish.report.found import FoundRun, find_run
from runyoro_ssl.publish.report.measured import shown_families, what_was_heard
from runyoro_ssl.publish.report.pairs import shown_pairs
from runyoro_ssl.publish.report.recipe import differences
from runyoro_ssl.publish.report.sources import HEADER, picture_of_sources, rows_of_sources
from runyoro_ssl.publish.report.units import UnitExample, shown_units, units_by_phones
from runyoro_ssl.publish.report.verdict import opening

REPORT_PAGE = "report.html"
TEMPLATE = Path(__file__).with_name("report.html.jinja")
HELD_OUT = (("eval/contrastive_loss", "held-out loss", ""), ("eval/accuracy", "held-out accuracy", "%"))
NOT_MEASURED = "not-measured"
"""The place of the page that says what was left out."""
DASH = "\N{EN DASH}"


def write_report(
    folder: Path,
    *,
    evaluation: Evaluation | None = None,
    units: Sequence[UnitExample] = (),
    with_audio: bool = True,
    now: datetime | None = None,
    dataset: Path | None = None,
) -> Path:
    """Write report.html into a folder, whole or not at all, and return its path.

    Args:
        folder: That of a run, finished or under way; or any folder, to show an evaluation alone.
        evaluation: What is to be shown; else evaluation.json of the folder, if there is one.
        units: Units to hear and to see.
        with_audio: False leaves every sound out: such a page can be shared without anybody's voice.
        dataset: One at hand, that is described if it is the run's and that is not found where it was.
        now: The time that the page of a run under way shows; else the clock's.

    Raises:
        EvaluationError: The folder's evaluation.json is damaged.
        OSError: The page cannot be written; the one before is as it was.
    """
    evaluation = evaluation or read_evaluation(folder)
    run = find_run(folder)
    data = describe_data(run, dataset) if run else None
    text = render_page(
        TEMPLATE,
        title=_title(run, evaluation, folder),
        kind=_kind(run, evaluation),
        tiles=_tiles(run, data, evaluation),
        contents=_contents(run, evaluation, units),
        opening=opening(run, evaluation, folder),
        as_of=_as_of(run, now),
        run=run,
        data=data,
        suggestions=suggestions(run, data, evaluation),
        with_audio=with_audio,
        units=shown_units(units, with_audio=with_audio),
        units_by_phones=units_by_phones(units),
        unit_layer=_unit_layer(evaluation),
        **_of_run(run),
        **_of_evaluation(evaluation),
    )
    path = folder / REPORT_PAGE
    replace_file(path, text)
    return path


def _title(run: FoundRun | None, evaluation: Evaluation | None, folder: Path) -> str:
    if run is not None and run.language:
        return f"{run.language[:1].upper()}{run.language[1:]}"
    return evaluation.adapted if evaluation else folder.name


def _kind(run: FoundRun | None, evaluation: Evaluation | None) -> str:
    if evaluation is not None:
        beside = f"beside {evaluation.base}"
        return f"{evaluation.adapted}, {beside}" if run is not None and run.language else f"A model {beside}"
    if run is None:
        return "A model"
    return f"A training run{' under way' if run.is_running else ''}: {run.folder.name}"


def _unit_layer(evaluation: Evaluation | None) -> int | None:
    """The layer of the adapted model that its units are of."""
    of_units = [one for one in evaluation.measures if one.family == "units"] if evaluation else []
    return next((one.layers[ADAPTED] for one in of_units if ADAPTED in one.layers), None)


def _contents(
    run: FoundRun | None, evaluation: Evaluation | None, units: Sequence[UnitExample]
) -> list[tuple[str, str]]:
    is_there = {
        "speech": (run is not None, "Its speech"),
        "recipe": (run is not None, "How it was trained"),
        "curves": (run is not None, "Curves"),
        "final": (run is not None and final_of(run.result) is not None, "The final model"),
        "measures": (evaluation is not None, "Measures"),
        "layers": (evaluation is not None and bool(evaluation.curves), "By layer"),
        "keep": (evaluation is not None and bool(evaluation.candidates), "Which to keep"),
        "units": (bool(units), "Units"),
        "next": (True, "What to try next"),
    }
    return [(place, name) for place, (there, name) in is_there.items() if there]


def _as_of(run: FoundRun | None, now: datetime | None) -> str:
    """How far a run was when its page was written."""
    if run is None or run.is_over:
        return ""
    of = f" of {number(run.total_steps)}" if run.total_steps else ""
    if not run.is_running:
        return f"The run is at step {number(run.step)}{of} and does not go on by itself: {run.record.state}."
    when = (now or datetime.now(UTC).astimezone()).strftime("%Y-%m-%d %H:%M %Z")
    return f"This page is of step {number(run.step)}{of}, as of {when}; each validation writes it anew: reload it."


def _tiles(run: FoundRun | None, data: TrainedOn | None, evaluation: Evaluation | None) -> list[Tile]:
    tiles: list[Tile] = []
    if run is not None and data is not None:
        learned = DASH if data.seconds is None else amount_of_time(data.seconds)
        who = plural(data.speakers, "speaker") if data.speakers else "speakers not named"
        tiles.append(Tile(learned, "of speech", who if data.speakers is not None else ""))
        of = f"of {number(run.total_steps)}" if run.total_steps and run.total_steps != run.step else ""
        tiles.append(Tile(number(run.step), "steps", of))
        tiles += [_before_after(run, name, words, unit) for name, words, unit in HELD_OUT]
    elif evaluation is not None:
        speech = evaluation.speech
        who = plural(speech.speakers, "speaker") if speech.speakers else "speakers not named"
        tiles.append(Tile(amount_of_time(speech.seconds), "heard", plural(speech.clips, "clip")))
        tiles.append(Tile(number(speech.recordings), "recordings", who))
        left_out = len(evaluation.left_out)
        place = NOT_MEASURED if left_out else ""
        tiles.append(Tile(number(len(evaluation.measures)), "measures", f"{left_out} left out", place))
    return tiles


def _before_after(run: FoundRun, name: str, words: str, unit: str) -> Tile:
    """A measure of the best model so far, and what it was at the start."""
    values = run.logged[name][1] if name in run.logged else np.empty(0)
    first = run.validation("first").get(name, values[0] if len(values) else None)
    best = run.validation("best").get(name)
    shown = best if best is not None else (values[-1] if len(values) else None)
    if shown is None:
        return Tile(DASH, words, "not measured")
    return Tile(figure(shown, unit), words, f"was {figure(first, unit)}")


def _of_run(run: FoundRun | None) -> dict[str, Any]:
    if run is None:
        return {"charts_of_run": [], "changed_settings": [], "course_sentence": "", "more_events": "", "final": None}
    said = course_of_loss(run.validation("first"), run.validation("best"))
    return {
        "charts_of_run": training_curves(run, picture_of_sources(run)),
        "header_of_sources": HEADER,
        "sources": rows_of_sources(run),
        "changed_settings": differences(run.settings),
        "course_sentence": f"{said[:1].upper()}{said[1:]}." if run.record.validations else "",
        "more_events": others(run.course),
        "final": final_of(run.result),
    }


def _of_evaluation(evaluation: Evaluation | None) -> dict[str, Any]:
    if evaluation is None:
        return {
            "families": [],
            "heard": [],
            "left_out": {},
            "layers": [],
            "has_log_mel": False,
            "choice": None,
            "pairs": None,
            "versions": {},
        }
    return {
        "families": shown_families(evaluation),
        "heard": what_was_heard(evaluation),
        "left_out": evaluation.left_out,
        "layers": layer_charts(evaluation),
        "has_log_mel": any(LOG_MEL in curve.values for curve in evaluation.curves),
        "choice": choice_of(evaluation),
        "pairs": shown_pairs(evaluation),
        "versions": evaluation.versions,
    }
