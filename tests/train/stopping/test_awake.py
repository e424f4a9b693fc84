"""A Mac that must not sleep: a stand-in for macOS's `caffeinate`, started and ended for real."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from runyoro_ssl.train.stopping.awake import keep_awake


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the PATH, on a machine that says it is a Mac."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(folder: Path, body: str) -> None:
    """A `caffeinate` that notes its number and its arguments, and then does what it is told."""
    script = folder / "caffeinate"
    script.write_text(f'#!/bin/sh\necho "$$ $@" >> {folder}/started\n{body}\n')
    script.chmod(0o755)


def started(folder: Path) -> tuple[int, str]:
    """The number and the arguments of the one that was started."""
    deadline = time.monotonic() + 5
    while not (folder / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    pid, arguments = (folder / "started").read_text().strip().split(" ", 1)
    return int(pid), arguments


@pytest.mark.parametrize("body", ["exec /bin/sleep 60", "trap '' TERM; while :; do /bin/sleep 0.1; done"])
def test_mac_is_kept_awake_and_let_go(mac: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """It is bound to this process, in a session of its own, and ends with the block, also one that is stubborn."""
    monkeypatch.setattr("runyoro_ssl.train.stopping.awake.END_SEC", 0.3)
    install(mac, body)

    def fail() -> None:
        pid, arguments = started(mac)
        assert arguments == f"-i -m -w {os.getpid()}"
        assert psutil.pid_exists(pid)
        assert os.getsid(pid) != os.getsid(0)
        raise ZeroDivisionError

    with capture_logs() as lines, pytest.raises(ZeroDivisionError), keep_awake(enabled=True):
        fail()
    pid, _ = started(mac)
    assert not psutil.pid_exists(pid)
    assert not lines


def test_missing_command_is_one_warning(mac: Path) -> None:
    """The run goes on."""
    with capture_logs() as lines, keep_awake(enabled=True):
        pass
    assert not list(mac.iterdir())
    assert [(line["event"], line["log_level"]) for line in lines] == [("may_fall_asleep", "warning")]
    assert "caffeinate" in lines[0]["because"]


def test_failing_command_is_one_warning(mac: Path) -> None:
    """With its status."""
    install(mac, "exit 3")
    with capture_logs() as lines, keep_awake(enabled=True):
        pass
    assert [line["because"] for line in lines] == ["caffeinate ended at once with status 3"]


def test_nothing_is_started_elsewhere_or_unasked(mac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux, or with `train.keep_awake=false`."""
    install(mac, "exec /bin/sleep 60")
    before = psutil.Process().children()
    with keep_awake(enabled=False):
        assert psutil.Process().children() == before
    monkeypatch.setattr(sys, "platform", "linux")
    with keep_awake(enabled=True):
        assert psutil.Process().children() == before
    assert not (mac / "started").exists()
