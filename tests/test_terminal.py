"""Whole tasks in a terminal, as a person sees them: every event of a run once and whole, at any width."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from support.terminal import Shown, show

COLUMNS = [80, 110, 300]
BEGINS = re.compile(r"^(?:\d\d:\d\d:\d\d \[|step \d+/\d+ )")
"""How a log line begins."""
OTHER = re.compile(r"[┏┃┡│└]|Run\b|.? ?Training|\s*$")
"""How what is no log line begins: a table, a bar, nothing."""
BEHIND = re.compile(r".(?:\d\d:\d\d:\d\d \[(?:info|warning)|step \d+/\d+ (?:train|eval))")
"""One that is glued to something."""

NUMBERS = re.compile(r"^step (\d+)/\d+ (train|eval) .*\d%?$")
"""A line of numbers, to its end."""


def records(file: Path) -> list[dict[str, Any]]:
    """The lines of a log in JSON."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def events(shown: Shown) -> list[str]:
    """The log lines that are shown, with what the terminal has wrapped joined again."""
    found: list[str] = []
    goes_on = False
    for line in shown.lines:
        goes_on = bool(BEGINS.match(line)) or (goes_on and not OTHER.match(line))
        if BEGINS.match(line):
            found.append(line)
        elif goes_on:
            found[-1] += line
    return [line.rstrip() for line in found]


def check_numbers(shown: Shown, run: Path) -> list[str]:
    """Every step and validation that the run's own log has is shown once, in order; nothing is glued to another."""
    found = events(shown)
    assert [line for line in found if BEHIND.search(line)] == []
    logged = [
        (record["step"], "train" if any(name.startswith("train/") for name in record) else "eval")
        for record in records(run / "metrics.jsonl")
    ]
    kept: list[tuple[int, str]] = []
    for step, stage in (match for line in found for match in NUMBERS.findall(line)):
        while kept and (kept[-1][0], kept[-1][1] == "eval") >= (int(step), stage == "eval"):
            kept.pop()  # the run has gone back, and its log with it
        kept.append((int(step), stage))
    assert kept == logged
    assert not any("Validating" in line for line in shown.lines)  # a bar that has gone
    return found


@pytest.mark.long
@pytest.mark.parametrize("columns", COLUMNS)
def test_alarms(columns: int, dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    """A run that diverges, goes back, spikes and ends well: each alarm of its journal, with all that it says."""
    run = tmp_path / "run"
    given = ["--profile", "cpu-smoke", "--processed-dataset-path", dataset, "--model-name-or-path", tiny_model]
    given += ["--output-dir", run, "--learning-rate", "1", "--max-steps", "60"]
    for setting in ("train.logging_steps=1", "health.spike_factor=2", "hardware.update_seconds=8"):
        given += ["--set", setting]
    shown = show([sys.executable, "-m", "runyoro_ssl", "train", *map(str, given)], columns=columns)
    found = check_numbers(shown, run)
    told = [record for record in records(run / "journal.jsonl") if "kind" in record]
    assert {record["action"] for record in told} >= {"note", "go_back"}
    warned = [line for line in found if re.search(rf"\] (?:{'|'.join({record['kind'] for record in told})}) ", line)]
    assert len(warned) == len(told)
    for line, record in zip(warned, told, strict=True):
        assert f"step={record['step']} " in line
        for part in ("seen", "means", "done", "try"):
            assert record[part] in line.replace("\\'", "'")
    bars = [frame for frame in shown.frames if " steps" in frame and "Training" in frame]
    assert bars
    assert all(re.search(r"\d+/60 +steps.*left", bar) for bar in bars)


@pytest.mark.long
@pytest.mark.parametrize("columns", COLUMNS)
def test_smoke(columns: int, tmp_path: Path) -> None:
    """Every stage once; every step and validation; not one warning; the next command at its end."""
    command = [sys.executable, "-m", "runyoro_ssl", "smoke", "--work-dir", str(tmp_path / "smoke")]
    shown = show(command, columns=columns)
    assert shown.status == 0, shown.text
    (metrics,) = (tmp_path / "smoke").rglob("metrics.jsonl")
    found = check_numbers(shown, metrics.parent)
    stages = [stage for line in found for stage in re.findall(r"smoke_stage_done stage=(\w+)", line)]
    assert len(stages) == len(set(stages)) >= 5
    assert [line for line in found if "[warning" in line] == []
    assert "manifest --audio-dir FOLDER --speaker-from folder" in shown.text
