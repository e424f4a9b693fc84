"""A run that trained always leaves a model, and says which."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from runyoro_ssl.commands.train import show
from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import MANIFEST, new_folder
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.publish.card import write_model_card
from runyoro_ssl.train.checkpoints.format import NOT_FINITE, STATE
from runyoro_ssl.train.final import save_final_model
from support.lost import held_out_is_lost
from support.trainer import build, equal, run, weights

MakeConfig = Callable[..., Config]


def test_run_whose_validation_judges_nothing(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last model is the final one; log, table, result.json and card say so, and no number is made up."""
    held_out_is_lost(monkeypatch)
    with capture_logs() as logs:
        result = run(train_config("run", "train.max_steps=5"))
    out = result.output_dir
    (said,) = (line for line in logs if line["event"] == "no_best_model")
    assert said["because"].startswith("held-out speech could not be judged")
    assert said["final_model"] == "the last one: checkpoint-5"
    assert [line["step"] for line in logs if line["event"] == "validation_judged_nothing"] == [0, 2, 4, 5]
    assert "validation_collapsed" not in {line["event"] for line in logs}
    assert equal(weights(out), weights(out / "checkpoint-5"))
    show(result, {})
    assert capsys.readouterr().out.count("not measured") >= 3

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads((out / "result.json").read_text(), parse_constant=refuse)
    assert found["validations"]["best"]["eval/objective"] is None
    write_model_card(out)
    assert (out / "README.md").read_text().count("| not measured | not measured |") == 4


def test_run_that_was_never_healthy(train_config: MakeConfig) -> None:
    """Its codebooks had collapsed in every validation: a model is left all the same, and it is said what it is."""
    with capture_logs() as logs:
        result = run(train_config("run", "health.min_group_perplexity=100"))
    out = result.output_dir
    assert equal(weights(out), weights(out / "checkpoint-4"))
    events = {line["event"]: line for line in logs}
    assert "collapsed" in events["final_model_not_healthy"]["because"]
    assert events["no_best_model"]["because"] == "in each validation the codebooks had collapsed"
    assert result.best["step"] == 4


def test_weights_that_are_no_numbers_are_no_model(train_config: MakeConfig) -> None:
    """Of unhealthy checkpoints, the newest whose weights are numbers; where there is none, an error and no model."""
    config = train_config("run", "health.min_group_perplexity=100", "train.save_total_limit=0")
    out = run(config).output_dir
    done = build(train_config("run", "train.resume_from_checkpoint=last", "health.min_group_perplexity=100"))
    spoil(out / "checkpoint-4")
    save_final_model(done)
    assert equal(weights(out), weights(out / "checkpoint-2"))
    del done.watch.validations["best"]
    spoil(out / "checkpoint-2")
    with pytest.raises(TrainingError, match=r"no intact checkpoint is left.*journal.jsonl.*new run"):
        save_final_model(done)


def spoil(checkpoint: Path) -> None:
    """Write into a checkpoint that its weights are no numbers."""
    state = json.loads((checkpoint / STATE).read_text())
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.name not in (MANIFEST, STATE)}
    shutil.rmtree(checkpoint)
    with new_folder(checkpoint) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / STATE).write_text(json.dumps({**state, "concerns": [NOT_FINITE]}))


def test_what_is_hidden_in_a_folder_that_is_no_run_stays(train_config: Callable[..., Config], tmp_path: Path) -> None:
    """Names like those of what a kill leaves are somebody else's, where no run was."""
    output_dir = tmp_path / "out"
    (output_dir / ".trash-mine").mkdir(parents=True)
    (output_dir / ".tmp-mine").write_text("x")
    run(train_config("out", "train.max_steps=1"))
    assert (output_dir / ".trash-mine").is_dir()
    assert (output_dir / ".tmp-mine").read_text() == "x"
