"""How often a run is logged, validated and saved where no flag says so: by share and time, whatever its steps cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from conftest import ROOT
from runyoro_ssl.config import Config, TrainConfig
from runyoro_ssl.train import intervals
from runyoro_ssl.train.checkpoints import saver
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.intervals import SAVE_APART_SEC, SAVE_SEC, Intervals, Schedule
from runyoro_ssl.train.step import Stepper
from runyoro_ssl.train.stopping import clock
from support.trainer import metrics, run

MakeConfig = Callable[..., Config]
ALONE: Any = SimpleNamespace(is_main_process=True, num_processes=1)
RATE = 16_000


def unset(config: Config, **others: Any) -> Config:
    """The configuration as of somebody who sets no interval."""
    train = {"save_steps": None, "logging_steps": None, "eval_steps": None, **others}
    return config.model_copy(update={"train": config.train.model_copy(update=train)})


def planned(total_steps: int, *, step_sec: float = 240.0, held_out_sec: float = 60.0, **settings: Any) -> Intervals:
    """The intervals of a run of so many steps of so much audio, with so much held out."""
    of_run: Any = SimpleNamespace(
        config=SimpleNamespace(train=TrainConfig(**settings)),
        total_steps=total_steps,
        update_seconds=step_sec,
        judged_seconds=held_out_sec,
    )
    return Intervals.of(of_run)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time on the clock that runs are measured by, to be moved."""
    moved = [1000.0]
    monkeypatch.setattr(clock, "now", lambda: moved[0])
    # A save goes on beside the steps, which take no real time here: it would seem to last as long as they.
    monkeypatch.setattr(saver, "clock", SimpleNamespace(now=time.monotonic))
    return moved


@pytest.mark.parametrize(
    ("total", "step_sec", "held_out_sec", "steps"),
    [
        (290, 240, 360, (14, 14)),  # 2 h on a Mac
        (230, 1500, 1800, (11, 11)),  # 10 h on a GPU
        (20, 240, 60, (5, 1)),
        (10_000, 240, 1800, (500, 500)),
        (143, 240, 1800, (25, 7)),  # one epoch of 10 h: twenty validations would cost a third of it
        (1, 240, 60, (5, 1)),
    ],
)
def test_share_of_the_run(total: int, step_sec: float, held_out_sec: float, steps: tuple[int, int]) -> None:
    """Every twentieth; validations never cost more than a tenth of the training, at a third of a step's work."""
    found = planned(total, step_sec=step_sec, held_out_sec=held_out_sec)
    assert (found.validate, found.save) == steps
    assert found.num_validations(0) * held_out_sec / 3 <= 0.1 * total * step_sec + held_out_sec / 3
    asked = [step for step in range(1, total + 1) if found.is_validated(step)]
    assert (len(asked), asked[-1]) == (found.num_validations(0), total)


def test_flags_set_steps_exactly() -> None:
    """Whatever the rule would say; `save_steps` sets validations too, `eval_steps` no checkpoints."""
    exact = planned(290, save_steps=500, logging_steps=7)
    assert (exact.log, exact.validate, exact.save) == (7, 500, 500)
    assert not exact.log_by_clock_too
    assert not exact.save_by_clock_too
    assert exact.words() == {"log": "every 7 steps", "validation": "at the end", "checkpoint": "at the end"}
    assert planned(290, save_steps=500, eval_steps=3).validate == 3
    evaluated = planned(290, eval_steps=3)
    assert (evaluated.validate, evaluated.save, evaluated.save_by_clock_too) == (3, 14, True)


def test_words_have_minutes_when_they_are_known() -> None:
    """In steps, and in minutes."""
    assert planned(290).words(10.0) == {
        "log": "the first step, every 10 steps (1.7 min), and every minute",
        "validation": "every 14 steps (2.3 min)",
        "checkpoint": "every 14 steps (2.3 min), and every 15 min",
    }
    assert planned(290).words()["checkpoint"] == "every 14 steps, and every 15 min"


def test_the_main_process_decides(at: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another whose clock says otherwise does as it says; where flags set all, nobody is asked."""
    other: Any = SimpleNamespace(is_main_process=False, num_processes=2)
    given: list[int] = []

    def total(_accelerator: Any, mine: int) -> int:
        given.append(mine)
        return 2  # the main process's: save, but log nothing

    monkeypatch.setattr(intervals, "sum_over_processes", total)
    schedule = Schedule(other, planned(2000))
    at[0] += 90.0
    assert schedule.due(3, saved_step=0, step_seconds=30.0) == (False, True)
    assert given == [0]
    exact = Schedule(other, planned(2000, save_steps=3, logging_steps=2))
    assert [exact.due(step, saved_step=0, step_seconds=1.0) for step in (2, 3)] == [(True, False), (False, True)]
    assert given == [0]


@pytest.mark.parametrize("save_sec", [0.0, 2.0, 60.0])
@pytest.mark.parametrize("step_sec", [0.1, 3.0, 40.0, 200.0, 1200.0])
@pytest.mark.parametrize("total", [20, 290, 2000])
def test_little_is_lost_whatever_steps_and_saves_cost(
    at: list[float], total: int, step_sec: float, save_sec: float
) -> None:
    """Killed at any moment: 15 minutes or a twentieth of the run at most, but for a step or a save that takes longer.

    Checkpoints hold the run up for a tenth of its time at most, but for the first, or to keep to 15 minutes.
    """
    schedule = Schedule(ALONE, planned(total), lambda: save_sec)
    saved_step, safe_at, most_lost, held_up, num_saved = 0, at[0], 0.0, 0.0, 0
    for step in range(1, total + 1):
        at[0] += step_sec
        most_lost = max(most_lost, at[0] - safe_at)
        if schedule.due(step, saved_step=saved_step, step_seconds=step_sec).save:
            saved_step, num_saved, began = step, num_saved + 1, at[0]
            at[0] += save_sec
            most_lost = max(most_lost, at[0] - safe_at)
            safe_at, held_up = began, held_up + save_sec
            schedule.saved(held_up=save_sec)
    whole = total * step_sec
    rarest = max(whole / 20, step_sec, SAVE_APART_SEC, 10 * save_sec)  # saving may take a tenth
    bound = max(min(rarest, SAVE_SEC), step_sec)
    assert most_lost <= bound + step_sec + save_sec + 1e-6
    if save_sec == 0 and whole >= 20 * SAVE_APART_SEC:
        assert num_saved >= 20
    assert held_up <= max(0.1, 2 * save_sec / SAVE_SEC) * (whole + held_up) + 2 * save_sec


def test_a_step_that_would_pass_the_15_minutes_is_saved_before(at: list[float]) -> None:
    """With half as much again for the step and the writing."""
    schedule = Schedule(ALONE, planned(10_000), lambda: 20.0)
    due = {}
    for step in range(1, 13):
        at[0] += 100.0
        due[step] = schedule.due(step, saved_step=0, step_seconds=100.0).save
    assert [step for step, is_due in due.items() if is_due] == [8, 9, 10, 11, 12]


LOGGED = {0.5: [1, 10, 20, 24], 25.0: [1, 4, 7, 10, 13, 16, 19, 20, 23, 24]}


@pytest.mark.parametrize("step_sec", LOGGED)
def test_first_log_line_within_a_minute(
    train_config: MakeConfig,
    at: list[float],
    monkeypatch: pytest.MonkeyPatch,
    step_sec: float,
) -> None:
    """After the first step, then every tenth, or as soon as a minute is over; how long the run takes comes between."""
    slow_down(monkeypatch, at, step_sec)
    with capture_logs() as logs:
        out = run(unset(train_config("run", "train.max_steps=24"))).output_dir
    assert [line["step"] for line in metrics(out) if "train/objective" in line] == LOGGED[step_sec]
    (told,) = (line for line in logs if line["event"] == "pace")
    whole = {0.5: "12.0 s", 25.0: "10.0 min"}[step_sec]
    assert (told["whole_run"], told["step"]) == (whole, f"{step_sec} s")
    assert "every 6 steps (" in told["validation"]  # a third of the audio is held out


def slow_down(monkeypatch: pytest.MonkeyPatch, at: list[float], step_sec: float, *, killed_at: int = 0) -> None:
    """Have each step take so long on the clock; a run is killed in the step `killed_at`."""
    take = Stepper.take

    def slowly(stepper: Stepper, update: Any, *rest: Any) -> Any:
        at[0] += step_sec
        if update.step == killed_at:
            raise Killed
        return take(stepper, update, *rest)

    monkeypatch.setattr(Stepper, "take", slowly)


class Killed(BaseException):
    """Nothing handles it."""


@pytest.mark.parametrize(
    "step_sec", [45.0, 1000.0, *(pytest.param(seconds, marks=pytest.mark.long) for seconds in (20.0, 299.0, 400.0))]
)
def test_killed_at_random_steps(
    train_config: MakeConfig, at: list[float], monkeypatch: pytest.MonkeyPatch, step_sec: float
) -> None:
    """A real run of default settings loses a twentieth, or 15 minutes, or the one step that is longer.

    What is lost is what was done and is in no checkpoint, and the step that is cut short.
    """
    killed_at = int(np.random.default_rng().integers(4, 60))
    slow_down(monkeypatch, at, step_sec, killed_at=killed_at)
    config = unset(train_config("run", "train.max_steps=60"), eval_steps=1000)
    with pytest.raises(Killed):
        run(config)
    newest = list_checkpoints(config.train.output_dir)[-1][0]
    lost_sec = (killed_at - newest) * step_sec
    assert 0 < lost_sec <= max(step_sec, min(60 * step_sec / 20, SAVE_SEC)), f"killed in step {killed_at}"


def test_what_goes_by_steps_is_the_same_after_a_stop(
    train_config: MakeConfig, at: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validations and the best model: killed and resumed, on a slower machine, as if nothing had happened."""
    settings = ("train.max_steps=24",)
    calm = run(unset(train_config("calm", *settings)))
    with monkeypatch.context() as patch:
        slow_down(patch, at, 500.0, killed_at=14)
        with pytest.raises(Killed):
            run(unset(train_config("run", *settings)))
    resumed = run(unset(train_config("run", *settings), resume_from_checkpoint="last"))
    assert resumed.best == calm.best
    validated = [[line for line in metrics(one.output_dir) if "eval/objective" in line] for one in (calm, resumed)]
    assert validated[0] == validated[1]
    assert [line["step"] for line in validated[0]] == [0, 6, 12, 18, 24]


@pytest.fixture
def in_two(train_config: MakeConfig, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function (*options) -> `train` of twelve steps in two processes, ended with status 0."""

    def start(*options: str) -> subprocess.CompletedProcess[str]:
        config = unset(train_config("two", "train.max_steps=12", "hardware.update_seconds=24"))
        file = tmp_path / "two.toml"
        file.write_text(config.to_toml())
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += ["-m", "runyoro_ssl", "train", "--profile", "cpu-smoke", "--config", str(file), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    return start


@pytest.mark.long
def test_two_processes_forecast_once(in_two: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """Together, and say it once; nothing is written."""
    assert in_two("--dry-run").stdout.count("what the run would be") == 1
    assert not (tmp_path / "two").exists()


@pytest.mark.long
def test_two_processes_agree(in_two: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """The main one's clock decides; a process that logged or saved alone would wait for the other without end."""
    done = in_two()
    assert done.stderr.count("pace ") == 1
    steps = [line["step"] for line in metrics(tmp_path / "two") if "train/objective" in line]
    assert {1, 10, 12} <= set(steps)
