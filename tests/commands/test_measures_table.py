"""The table of an evaluation, as it is read in terminals of the usual widths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runyoro_ssl import logs
from runyoro_ssl.commands.evaluate import Evaluated, show
from runyoro_ssl.commands.measures_table import NONE, lay_out, lay_out_models, name_of
from runyoro_ssl.evaluate.record import Evaluation, Interval
from support.evaluations import full_evaluation

LONG = "what units (100, by k-means) tell of the speaker, beside what they would by chance alone"


@pytest.fixture
def evaluation() -> Evaluation:
    """Wide numbers, and a name of more than a line."""
    found = full_evaluation(candidates=(), best={})
    first, *others = found.measures
    wide = replace(
        first, unit="bits/s", words=LONG, values=dict.fromkeys(("base", "adapted", "log-mel", "random"), 12345.678)
    )
    wide = replace(wide, difference=-1234.5, difference_interval=Interval(-2345.6, -123.45))
    return replace(found, measures=[wide, *others])


@pytest.mark.parametrize("width", [70, 80, 100, 110, 120, 200])
def test_no_number_is_broken(
    width: int, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each stands whole in the table, with its interval; names are broken between words; no line is too long."""
    monkeypatch.setattr(logs, "table_width", lambda: width)
    monkeypatch.setattr("runyoro_ssl.commands.evaluate.table_width", lambda: width)
    show(Evaluated(evaluation, Path("folder"), Path("features"), 3 << 20), {})
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("│")]
    assert max(map(len, lines)) <= width
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    laid_out = lay_out(evaluation.measures, width)
    wanted = {line for _, rows in laid_out for row in rows for cell in row[1:] for line in cell.split("\n")}
    assert {cell for _, *numbers in cells for cell in numbers if cell} == wanted
    assert "\nPlain log-mel spectra do better than both models on: " in out
    assert LONG in " ".join(name for name, *_ in cells if name)
    assert len(lines) < 4 * len(evaluation.measures)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_models_that_could_be_kept_fit(width: int, evaluation: Evaluation) -> None:
    """A further table where their measures do not; every number stands in one of them."""
    long_name = "25 % adapted, 75 % base"
    models = {
        ("base", NONE): {one.key: 12345.678 for one in evaluation.measures},
        (long_name, "no evidence"): {one.key: 0.5 for one in evaluation.measures},
    }
    tables = list(lay_out_models(models, evaluation.measures, width))
    assert [name for columns, _ in tables for name in columns[2:]] == [name_of(one) for one in evaluation.measures]
    assert all(row[0] in {"base", long_name} for _, rows in tables for row in rows)
    for columns, rows in tables:
        needed = [
            max(*map(len, name.split()), *(len(row[place]) for row in rows)) for place, name in enumerate(columns)
        ]
        assert len(columns) == 3 or sum(one + 3 for one in needed) + 1 <= width
