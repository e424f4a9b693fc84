"""The runs there are, and two beside each other: as what lies in their folders says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import short_run
from runyoro_ssl import runs
from runyoro_ssl.disk.lock import is_held
from runyoro_ssl.evaluate.record import EVALUATION, Evaluation, Judgement, Speech, write_evaluation
from runyoro_ssl.publish.runs import differing, find_runs, read_run
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.run_lock import LOCK, lock_run
from support.terminal import show
from support.trainer import run

RunTask = Callable[[str], tuple[int, str, str]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, dataset: Path, tiny_model: Path) -> Path:
    """A folder with a finished run, and in a folder below one that was stopped, of another rate."""
    folder = tmp_path_factory.mktemp("runs")
    run(short_run(dataset, tiny_model, folder / "one"))
    run(short_run(dataset, tiny_model, folder / "below" / "other", "train.learning_rate=2e-4", "train.seed=7"))
    other = folder / "below" / "other"
    for name in ("result.json", "model.safetensors", "checkpoint-4/MANIFEST.json", "checkpoint-4/trainer_state.json"):
        (other / name).unlink()
    return folder


def test_list_says_what_each_is_and_how_it_differs(two: Path, run_task: RunTask) -> None:
    """Of a stopped run, its newest checkpoint that can be read, and the command that goes on."""
    status, out, err = run_task(f"runs --folder {two}")
    assert status == 0, err
    text = " ".join(out.split())
    assert "finished" in text
    assert "4 of 4" in text
    assert "2 of 4" in text
    assert f"train --output-dir {two / 'below' / 'other'} --resume-from-checkpoint last" in text
    one, other = sorted(runs(folder=two), key=lambda each: each.state)
    assert (one.state, other.state, one.step, other.step) == ("finished", "stopped", 4, 2)
    assert differing([one, other]) == {"train.learning_rate": [5e-5, 2e-4], "train.seed": [42, 7]}
    best = json.loads((two / "one" / "result.json").read_text())["validations"]["best"]
    assert one.validations["best"] == best
    assert f"{best['eval/contrastive_loss']:.3f}" in out


def test_the_verdict_of_an_evaluation_is_shown(two: Path, run_task: RunTask) -> None:
    """In the list, and beside another that has none; a damaged one is as if it were not there."""
    verdict = Judgement("fits better", "It fits.")
    write_evaluation(Evaluation("a", "b", Speech(4, 21.0, 1, 0, "clips", 4), verdict, []), two / "one")
    assert "verdict: fits better" in run_task(f"runs --folder {two}")[1]
    text = " ".join(run_task(f"runs {two / 'one'} {two / 'below' / 'other'}")[1].split())
    assert "verdict, beside its base │ fits better │ not evaluated" in text
    (two / "one" / EVALUATION).write_text("{}")
    assert "verdict:" not in run_task(f"runs --folder {two}")[1]
    (two / "one" / EVALUATION).unlink()


def test_two_runs_stand_side_by_side(two: Path, run_task: RunTask) -> None:
    """Settings that differ, and every measure of the first, best and last model."""
    status, out, err = run_task(f"runs {two / 'one'} {two / 'below' / 'other'}")
    assert status == 0, err
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│" in line]
    found = {row[0]: row[1:] for row in rows}
    assert found["setting train.learning_rate"] == ["5e-05", "0.0002"]
    assert found["setting train.seed"] == ["42", "7"]
    assert found["first: step"] == ["0", "0"]
    assert {f"{kind}: accuracy" for kind in ("first", "best", "last")} <= found.keys()
    assert "setting train.weight_decay" not in found


def test_state_of_a_run(two: Path, tmp_path: Path, run_task: RunTask) -> None:
    """Running while its lock is held; given up where an alarm ended it; begun where nothing was saved."""
    other = two / "below" / "other"
    with lock_run(other):
        assert is_held(other / LOCK)
        assert read_run(other).state == "running"
    assert not is_held(other / LOCK)
    (other / LOCK).write_text("what a dead run left")
    assert read_run(other).state == "stopped"
    (other / LOCK).unlink()
    kept = (other / journal.NAME).read_bytes()
    journal.record(other, {"kind": "codebook_collapse", "action": "stop", "step": 2})  # as report_alarm() words it
    assert read_run(other).state == "given up: codebook_collapse"
    (other / journal.NAME).write_bytes(kept)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.toml").write_text("[train]\nseed = 3\n")
    (begun,) = find_runs(tmp_path)
    assert (begun.state, begun.step, begun.total_steps, begun.settings["train.seed"]) == (
        *("begun, nothing saved", 0, None),
        3,
    )
    listed = run_task(f"runs --folder {tmp_path}")[1]
    assert "none saved" in listed
    assert "not yet" in listed
    (tmp_path / "begun" / "run.toml").write_text("seed = [")
    assert find_runs(tmp_path)[0].settings == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--folder {tmp}", "no run is in it, nor below it"),
        ("{two}/one", "is one run: give another one"),
        ("{two}/one {tmp}", "is no run: it has no run.toml"),
        ("--foldr x", 'did you mean "--folder"'),
        ("{two}/one {two}/one {two}/one", "An option goes before it"),
    ],
)
def test_wrong_input_is_a_line(given: str, said: str, two: Path, tmp_path: Path, run_task: RunTask) -> None:
    """With what to give instead."""
    status, _, err = run_task("runs " + given.format(tmp=tmp_path, two=two))
    assert status == 1
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("columns", [80, 110])
def test_list_fits_a_terminal(columns: int, two: Path) -> None:
    """States, steps and numbers unbroken; of a run with a long name, the name takes more lines."""
    (two / "one").rename(two / "a run with a blank, and such a long name that no terminal has room for all of it")
    try:
        shown = show([sys.executable, "-m", "runyoro_ssl", "runs", "--folder", str(two)], columns=columns)
    finally:
        next(two.glob("a run*")).rename(two / "one")
    assert shown.status == 0
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.lines if line.startswith("│")]
    whole = [row[1:] for row in cells if any(row[1:])]
    assert [row[:2] for row in whole] == [["finished", "4 of 4"], ["stopped", "2 of 4"]]
    assert all(re.fullmatch(r"[\d.]+ to [\d.]+", row[2]) and row[3].count("%") == 2 for row in whole)
    assert f"runs '{two}/a run with a blank" in shown.text


def test_two_by_name(two: Path, run_task: RunTask) -> None:
    """As the list shows them; what a run learned with, and what it reached, beside the other's."""
    status, out, err = run_task(f"runs one below/other --folder {two}")
    assert status == 0, err
    assert "setting train.learning_rate" in out


def test_losses_on_other_speech_are_not_compared(two: Path, run_task: RunTask) -> None:
    """Where the datasets of two runs differ, the table says so."""
    result = two / "one" / "result.json"
    before = result.read_text()
    assert "not the same" not in run_task(f"runs one below/other --folder {two}")[1]
    result.write_text(json.dumps(json.loads(before) | {"dataset_sha256": "another"}))
    try:
        assert "not the same: their losses" in run_task(f"runs one below/other --folder {two}")[1]
    finally:
        result.write_text(before)
