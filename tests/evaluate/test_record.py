"""evaluation.json: what is written is read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.record import (
    EVALUATION,
    Evaluation,
    Interval,
    Judgement,
    KeepableModel,
    LayerCurve,
    ModelMeasure,
    PhonePair,
    Speech,
    read_evaluation,
    write_evaluation,
)

WHOLE = Evaluation(
    "xls-r",
    "run",
    Speech(40, 600.0, 12, 8, "speakers", 8, languages=["nyo"]),
    Judgement("fits better", "It fits.", ("because",), ("more",)),
    [
        ModelMeasure(
            *("fit.contrastive_loss", "loss", "fit", "nats", "lower", {"base": 3.8, "adapted": 3.5}),
            {"base": Interval(3.7, 3.9)},
            -0.3,
            Interval(-0.4, -0.2),
        ),
        ModelMeasure("units.bitrate", "bits", "units", "bits/s", "neither", {"base": 40.0}),
    ],
    [LayerCurve("change.cka", "likeness", "", "neither", {"adapted": [1.0, 0.9]}, {"adapted": [0, 3]})],
    {"forgetting": "none was given"},
    [KeepableModel("checkpoint-10", "checkpoint", 10, {"fit.contrastive_loss": 3.6})],
    {"held-out loss": "checkpoint-10"},
    pairs=[PhonePair(("e", "i"), {"base": 0.4, "adapted": 0.3}, (30, 12))],
)


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every part of it; where there is none, none."""
    assert read_evaluation(tmp_path) is None
    write_evaluation(WHOLE, tmp_path)
    found = read_evaluation(tmp_path)
    assert found is not None
    assert json.dumps(found.measures[0].difference_interval.__dict__) == '{"low": -0.4, "high": -0.2}'
    again = tmp_path / "again"
    again.mkdir()
    write_evaluation(found, again)
    assert (again / EVALUATION).read_text() == (tmp_path / EVALUATION).read_text()
    assert found.get("units.bitrate") == WHOLE.measures[1]
    assert found.get("no.such") is None


def test_one_of_before_pairs_of_phones_is_read(tmp_path: Path) -> None:
    """Without them, and with curves that name no layers."""
    written = json.loads(write_evaluation(WHOLE, tmp_path).read_text())
    del written["pairs"], written["curves"][0]["at"]
    (tmp_path / EVALUATION).write_text(json.dumps(written))
    found = read_evaluation(tmp_path)
    assert found is not None
    assert (found.pairs, found.curves[0].at) == ([], {})


def test_what_was_drawn_is_told_as_far_as_measures_differ() -> None:
    """Half of the speakers, some of them, all of them; other speech has others; without intervals, nothing."""

    def drawn(**numbers: int) -> str:
        measures = [
            ModelMeasure(f"{family}.x", "x", family, "", "lower", {}, num_groups=number)  # type: ignore[arg-type]  # families
            for family, number in numbers.items()
        ]
        return replace(WHOLE, measures=measures).drawn

    assert drawn(fit=40, geometry=20, phones=18, forgetting=9, memory=70) == "18 to 40 speakers"
    assert drawn(fit=40, phones=0) == "40 speakers"
    assert not drawn(fit=0)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 99}', '{"version": 1}', "null"])
def test_one_that_is_damaged_or_of_another_version_is_said(text: str, tmp_path: Path) -> None:
    """In a line that says what to do."""
    (tmp_path / EVALUATION).write_text(text)
    with pytest.raises(EvaluationError, match="run invoke evaluate again"):
        read_evaluation(tmp_path)
