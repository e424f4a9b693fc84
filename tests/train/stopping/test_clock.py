"""Deadlines, and machines that sleep."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from conftest import ROOT
from runyoro_ssl.train.stopping.clock import Deadline, SleepWatch


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the wall clock ("time") and the monotonic one show."""
    shown = {"time": 1_000_000.0, "monotonic": 500.0}
    monkeypatch.setattr(time, "time", lambda: shown["time"])
    monkeypatch.setattr(time, "monotonic", lambda: shown["monotonic"])
    return shown


def test_deadline_leaves_time_for_a_step_and_a_save(clocks: dict[str, float]) -> None:
    """And half as much again: 100 s are left of 160, so 66 s fit and 68 s do not."""
    deadline = Deadline(160.0, started=440.0)
    assert not deadline.is_near(6, 60)
    assert deadline.is_near(8, 60)
    assert deadline.is_near(60, 8)
    clocks["monotonic"] += 200
    assert deadline.is_near(0, 0)


def test_without_a_deadline_nothing_is_near(clocks: dict[str, float]) -> None:
    """A run without `stop_after` goes on."""
    clocks["monotonic"] = 1e9
    assert not Deadline(None, started=0.0).is_near(1e9, 1e9)


def test_start_of_the_process_counts_imports() -> None:
    """A second before anything is asked is part of the elapsed time. The kernel knows the start to about a second."""
    code = "import time; time.sleep(1.2); from runyoro_ssl.train.stopping.clock import process_started as f; "
    code += "print(time.monotonic() - f())"
    begin = time.monotonic()
    elapsed = float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True))
    assert 0.9 < elapsed < time.monotonic() - begin + 1.1


def test_sleep_is_what_the_wall_clock_has_more(clocks: dict[str, float]) -> None:
    """Told once; time awake, a clock set back and short differences are none."""
    watch = SleepWatch()
    clocks["time"] += 7_000
    clocks["monotonic"] += 100
    assert watch.lap() == 6_900
    assert watch.lap() == 0
    for wall, monotonic in ((500, 500), (59, 0), (-5_000, 10)):
        clocks["time"] += wall
        clocks["monotonic"] += monotonic
        assert watch.lap() == 0
    clocks["time"] += 61
    assert watch.lap() == 61
