"""A run whose log loses its reader goes on, and is saved when it is asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.train.checkpoints.listing import list_checkpoints

LATE_LINES = ("train.max_steps=100000", "train.save_steps=50000", "train.eval_steps=50000", "train.logging_steps=5000")
"""So that the first line after the start is that on stopping."""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a line of bash in a group of its own, which is gone afterwards. bash itself outlives Ctrl-C."""
    started: list[subprocess.Popen[bytes]] = []

    def start(line: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(["bash", "-c", f"trap : INT; {line}"], cwd=tmp_path, env=env, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Callable[[], bool], *, timeout_sec: float = 60) -> None:
    """Wait until it holds."""
    end = time.monotonic() + timeout_sec
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def has_begun(out: Path) -> bool:
    """Whether steps are being taken: the journal stands just before the first."""
    return (out / "journal.jsonl").exists()


@pytest.mark.parametrize("reader", ["2>&1 | tee log", pytest.param("2>&1 | head -1 > log", marks=pytest.mark.long)])
def test_ctrl_c_saves_whatever_reads_the_log(
    reader: str, train_config: Callable[..., Config], tmp_path: Path, shell: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    """`tee` dies of the same Ctrl-C, `head` was gone before: the steps are saved, and the status says what happened."""
    config = train_config("run", *LATE_LINES)
    (tmp_path / "run.toml").write_text(config.to_toml())
    train = f"{sys.executable} -m runyoro_ssl train --profile cpu-smoke --config run.toml"
    process = shell(f"{train} {reader}; echo ${{PIPESTATUS[0]}} > status")
    wait_for(lambda: has_begun(tmp_path / "run"))
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert (tmp_path / "status").read_text().strip() == str(128 + signal.SIGINT)
    assert len(list_checkpoints(tmp_path / "run")) == 1


def test_a_run_ends_well_that_nobody_hears(
    train_config: Callable[..., Config], tmp_path: Path, shell: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    """Its streams are closed, or lose their reader after the first line: status 0, and a final model."""
    (tmp_path / "run.toml").write_text(train_config("run").to_toml())
    train = f"{sys.executable} -m runyoro_ssl train --profile cpu-smoke --config run.toml"
    line = f"{train} <&- >&- 2>&- && {train} --output-dir other 2>&1 | head -1; echo ${{PIPESTATUS[0]}} > status"
    assert shell(line).wait(120) == 0
    assert (tmp_path / "status").read_text().strip() == "0"
    assert (tmp_path / "other" / "model.safetensors").exists()
