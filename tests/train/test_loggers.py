"""Logging backends: every number, once, however often a run is resumed."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from conftest import ROOT
from runyoro_ssl.builtins.loggers import ConsoleLogger, JsonlLogger, TensorBoardLogger, TrackioLogger, WandbLogger
from runyoro_ssl.errors import PluginError
from runyoro_ssl.plugin.spec import Run
from runyoro_ssl.publish.report.logged import read_logged
from runyoro_ssl.train.loggers import open_loggers
from support.disks import resize


def make_run(folder: Path, start_step: int = 0) -> Run:
    """A run in a folder."""
    return Run(folder, "a run", {"train": {"seed": 1}}, start_step, 10)


def test_jsonl_holds_each_step_once(tmp_path: Path) -> None:
    """A resumed run replaces the lines past its checkpoint, and one cut short by a crash."""
    first = JsonlLogger()
    first.open(make_run(tmp_path))
    for step in (1, 2, 3):
        first.log(step, {"epoch": 0.5, "train/objective": float(step)})
    first.close("failed")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "tra')
    second = JsonlLogger()
    second.open(make_run(tmp_path, start_step=2))
    second.log(3, {"train/objective": 30.0, "train/grad_norm": math.inf})
    second.close("finished")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["train/objective"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert lines[2]["train/grad_norm"] is None


@pytest.mark.parametrize(
    "bad",
    [
        b"\0" * 30,
        b"\xff\xfe",
        b"[]",
        b'"x"',
        b'{"step": null}',
        b'{"step": "3"}',
        b'{"step": 1e400}',
        b'{"step": 3',
        b"[" * 100_000,
        b'{"step": ' + b"1" * 5000 + b"}",
    ],
)
def test_bad_line_costs_that_line(tmp_path: Path, bad: bytes) -> None:
    """Of a damaged file a copy is kept; a second time, another. What the report reads of it is the same."""
    first = JsonlLogger()
    first.open(make_run(tmp_path))
    for step in range(1, 7):
        first.log(step, {"train/contrastive_loss": float(step)})
    first.close("failed")
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(damaged := b"\n".join([*lines[:2], bad, *lines[3:]]))
    assert read_logged(tmp_path)["train/contrastive_loss"][0].tolist() == [1, 2, 4, 5, 6]
    second = JsonlLogger()
    second.open(make_run(tmp_path, start_step=5))
    second.log(6, {"train/contrastive_loss": 60.0})
    second.close("finished")
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 4, 5, 6]
    assert (tmp_path / "damaged-metrics.jsonl").read_bytes() == damaged
    path.write_bytes(damaged)
    JsonlLogger().open(make_run(tmp_path, start_step=5))
    assert (tmp_path / "damaged-2-metrics.jsonl").read_bytes() == damaged


def test_jsonl_waits_for_room(disk: Path) -> None:
    """No line is lost on a full disk, however many, and whatever part of one was written."""
    logger = JsonlLogger()
    logger.open(make_run(disk))
    (disk / "filler").write_bytes(bytes((1 << 20) - 3 * 4096))
    for step in range(1, 400):
        logger.log(step, {"train/objective": float(step), "train/what": 0.123456789})
    assert len((disk / "metrics.jsonl").read_bytes().splitlines()) < 390
    (disk / "filler").unlink()
    logger.log(400, {"train/objective": 400.0})
    logger.close("finished")
    lines = [json.loads(line) for line in (disk / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 401))


def test_jsonl_drops_a_validation_that_is_made_again(tmp_path: Path) -> None:
    """A run that was stopped before its checkpoint knew of it makes it once more; a new run begins with nothing."""
    first = JsonlLogger()
    first.open(make_run(tmp_path))
    for step, name in ((1, "train/objective"), (2, "train/objective"), (2, "eval/objective"), (3, "train/objective")):
        first.log(step, {name: 1.0})
    first.close("failed")
    for run, left in (
        (replace(make_run(tmp_path, 2), is_validated=True), 3),
        (replace(make_run(tmp_path, 2), is_validated=False), 2),
        (replace(make_run(tmp_path), is_new=True), 0),
    ):
        again = JsonlLogger()
        again.open(run)
        again.close("failed")
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == left


def test_tensorboard_scalars_can_be_read_back(tmp_path: Path) -> None:
    """TensorBoard's own reader finds the numbers under their names."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger()
    logger.open(make_run(tmp_path))
    logger.log(5, {"eval/objective": 4.5})
    logger.close("finished")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("eval/objective")] == [(5, 4.5)]


def test_tensorboard_waits_for_room(disk: Path) -> None:
    """What was logged while the disk was full is there when it is not, at its time."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    resize(disk, 4 << 20)
    logger = TensorBoardLogger()
    logger.open(make_run(disk))
    logger.log(1, {"train/loss": 1.0})
    (disk / "another's").write_bytes(bytes(shutil.disk_usage(disk).free))
    begun = time.time()
    for step in range(2, 5000):  # more than the writer keeps back
        logger.log(step, {"train/loss": float(step)})
    filled = time.time()
    (disk / "another's").unlink()
    logger.log(5000, {"train/loss": 5000.0})
    logger.close("finished")
    found = EventAccumulator(str(disk / "tensorboard"), {"scalars": 0}).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in found] == [(step, float(step)) for step in range(1, 5001)]
    assert all(begun <= event.wall_time <= filled for event in found[1:4999])


def test_console_shows_what_a_person_watches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Loss, accuracy and perplexity, with the step and the length of the run; a line more for each other source."""
    logger = ConsoleLogger()
    logger.open(make_run(tmp_path))
    logger.log(5, {"eval/contrastive_loss": 4.5, "eval/accuracy": 0.25, "eval/hard_perplexity": 33.0})
    logger.log(7, {"eval/contrastive_loss": 4.0, "eval/donor/contrastive_loss": 3.5, "eval/donor/accuracy": 0.5})
    logger.close("finished")
    err = capsys.readouterr().err
    assert "step 7/10 eval/donor loss 3.5000  accuracy 50.0%" in err
    assert "5/10" in err
    assert "loss 4.5000" in err
    assert "hard perplexity 33" in err
    assert "25.0%" in err


def test_wandb_stays_offline_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, and without command line and code; a failed run is marked so. wandb is replaced: CI does not have it."""
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
    logger.log(1, {"train/objective": 1.0})
    logger.close("failed")
    assert calls[0]["mode"] == "offline"
    assert calls[0]["config"] == {"train": {"seed": 1}}
    assert calls[0]["settings"] == {"x_disable_meta": True, "disable_git": True, "disable_code": True, "console": "off"}
    assert calls[1:] == [(1, {"train/objective": 1.0}), 1]


WITHOUT_NETWORK = """
import json, socket, sys
from pathlib import Path

def refuse(*asked):
    print("asked the network:", asked, file=sys.stderr)
    raise OSError("no network here")

socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
from runyoro_ssl.builtins.loggers import TrackioLogger
from runyoro_ssl.plugin.spec import Run

folder = Path(sys.argv[1])
for start, is_new in ((0, True), (2, False)):
    logger = TrackioLogger()
    logger.open(Run(folder, "a run", {"train": {"seed": 1}}, start, 10, is_new))
    for step in range(start + 1, start + 4):
        logger.log(step, {"train/objective": float(step), "train/grad_norm": float("nan")})
    logger.close("finished")
import trackio
runs = {run.name: (run.group if hasattr(run, "group") else None) for run in trackio.Api().runs("runyoro-ssl")}
from trackio.sqlite_storage import SQLiteStorage
rows = {name: [(row["step"], row["train/objective"], len(row)) for row in SQLiteStorage.get_logs("runyoro-ssl", name)]
        for name in runs}
config = SQLiteStorage.get_run_config("runyoro-ssl", "a run")
print(json.dumps({"rows": rows, "config": config}))
"""


def test_trackio_stays_here_whatever_the_environment_says(tmp_path: Path) -> None:
    """Not one request, though someone is logged in and variables name places to send to; each step once in a run."""
    pytest.importorskip("trackio", reason="trackio is not installed: pip install -e '.[trackio]'")
    told = {
        "TRACKIO_SPACE_ID": "somebody/space",
        "TRACKIO_BUCKET_ID": "somebody/bucket",
        "TRACKIO_DATASET_ID": "somebody/data",
        "SPACE_REPO_NAME": "somebody/space",
        "TRACKIO_SERVER_URL": "https://server.example?write_token=x",
        "TRACKIO_WEBHOOK_URL": "https://hook.example",
        "HF_TOKEN": "hf_" + "x" * 34,
        "HF_HUB_OFFLINE": "0",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HF_HOME": str(tmp_path / "hub"),
    }
    command = [sys.executable, "-c", WITHOUT_NETWORK, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "asked the network" not in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    rows = {name: [row[:2] for row in rows] for name, rows in found["rows"].items()}
    assert rows == {
        "a run": [[step, float(step)] for step in (1, 2, 3)],
        "a run from step 2": [[step, float(step)] for step in (3, 4, 5)],
    }
    assert done.stdout.count("\n") == 1
    assert found["config"]["train"] == {"seed": 1}
    assert found["config"]["_Username"] is None
    assert found["config"]["_Group"] == "a run"


def test_trackio_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line, before a run begins."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PluginError, match=r"trackio is not installed; pip install -e '.\[trackio\]'"):
        TrackioLogger()


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_backend_that_raises_is_named_with_its_line_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: type[BaseException]
) -> None:
    """One warning, whatever it raises; the others go on to the end."""
    steps: list[int] = []

    class Broken(JsonlLogger):
        def log(self, step: int, _metrics: Mapping[str, float]) -> None:
            steps.append(step)
            raise kind("no disk")

    with open_loggers([("broken", Broken()), ("jsonl", JsonlLogger("all.jsonl"))], make_run(tmp_path)) as loggers:
        for step in (1, 2):
            loggers.log(step, {})
        loggers.status = "finished"
    assert steps == [1]
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 2
    out, err = capsys.readouterr()
    assert (out + err).count("logger_disabled") == 1
    assert re.search(rf"broken.*{kind.__name__}: no disk \(test_loggers.py:\d+\)", out + err)
