"""Logging backends: every number, once, however often a run is resumed."""

from __future__ import annotations

import json
import math
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runyoro_ssl.builtins.loggers import ConsoleLogger, JsonlLogger, TensorBoardLogger, WandbLogger
from runyoro_ssl.hookspecs import Run


def make_run(folder: Path, start_step: int = 0) -> Run:
    """A run in a folder."""
    return Run(folder, "a run", {"train": {"seed": 1}}, start_step, 10)


def test_jsonl_holds_each_step_once(tmp_path: Path) -> None:
    """A resumed run replaces the lines past its checkpoint, and one cut short by a crash."""
    first = JsonlLogger()
    first.open(make_run(tmp_path))
    for step in (1, 2, 3):
        first.log(step, {"epoch": 0.5, "train/loss": float(step)})
    first.close("failed")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "tra')
    second = JsonlLogger()
    second.open(make_run(tmp_path, start_step=2))
    second.log(3, {"train/loss": 30.0, "train/grad_norm": math.inf})
    second.close("finished")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["train/loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert lines[2]["train/grad_norm"] is None


def test_tensorboard_scalars_can_be_read_back(tmp_path: Path) -> None:
    """TensorBoard's own reader finds the numbers under their names."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger()
    logger.open(make_run(tmp_path))
    logger.log(5, {"eval/loss": 4.5})
    logger.close("finished")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("eval/loss")] == [(5, 4.5)]


def test_console_shows_what_a_person_watches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Loss, accuracy and perplexity, with the step and the length of the run."""
    logger = ConsoleLogger()
    logger.open(make_run(tmp_path))
    logger.log(5, {"eval/loss": 4.5, "eval/accuracy": 0.25, "eval/codevector_perplexity": 33.0})
    logger.close("finished")
    err = capsys.readouterr().err
    assert "5/10" in err
    assert "4.5000" in err
    assert "25.0%" in err


def test_wandb_stays_offline_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode given to wandb is offline; a failed run is marked so. wandb itself is replaced: CI does not have it."""
    calls: list[Any] = []

    class FakeRun:
        def log(self, metrics: dict[str, float], step: int) -> None:
            calls.append((step, metrics))

        def finish(self, exit_code: int) -> None:
            calls.append(exit_code)

    wandb: Any = ModuleType("wandb")
    wandb.__spec__ = ModuleSpec("wandb", None)

    def init(**options: Any) -> FakeRun:
        calls.append(options)
        return FakeRun()

    wandb.init = init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    logger = WandbLogger()
    logger.open(make_run(tmp_path))
    logger.log(1, {"train/loss": 1.0})
    logger.close("failed")
    assert calls[0]["mode"] == "offline"
    assert calls[0]["config"] == {"train": {"seed": 1}}
    assert calls[1:] == [(1, {"train/loss": 1.0}), 1]
