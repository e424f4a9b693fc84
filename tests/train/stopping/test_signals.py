"""Asked to stop: once, twice, by a terminal that closes; in processes of their own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from conftest import ROOT
from runyoro_ssl.processes import SIGNALS
from runyoro_ssl.train.stopping.signals import TOGETHER_SEC, StopSignal

pytestmark = pytest.mark.usefixtures("heard_signals")
APART_SEC = TOGETHER_SEC + 0.2
BUSY = """
import sys, time
from contextlib import contextmanager
from runyoro_ssl.train.stopping.signals import StopSignal
@contextmanager
def slow():
    try:
        yield
    finally:
        time.sleep(60)
with slow(), StopSignal() as stop:
    print("ready", flush=True)
    while not stop.received:
        time.sleep(0.01)
    print("received", stop.received.name, flush=True)
    {busy}
"""
"""Receives a signal and is then busy."""
SLEEPS = "time.sleep(60)"
INSIDE_C = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
"""Minutes; no Python handler runs before it ends. It lets other threads run, as torch does."""
SAVES = """
import sys, time
from pathlib import Path
from runyoro_ssl import logs
from runyoro_ssl.bars import progress
from runyoro_ssl.train.stopping.signals import StopSignal
from runyoro_ssl.processes import SIGNAL_EXIT
logs.configure()
with StopSignal() as stop, progress("steps") as bar:
    bar.add_task("Training", total=None)
    print("ready", flush=True)
    while not stop.received:
        time.sleep(0.01)
    time.sleep(float(sys.argv[2]))
    stop.announce()
    print("saving", flush=True)
    Path(sys.argv[1]).touch()
sys.exit(SIGNAL_EXIT + stop.received)
"""
"""Finishes a step that takes a while, says so, saves a file, as the loop does."""


def start(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    """A process that has said it is ready."""
    process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it says until it ends, which it must do by itself."""
    try:
        return process.communicate(timeout=20)
    finally:
        process.kill()


@pytest.mark.parametrize("busy", [SLEEPS, INSIDE_C])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_leaves_at_once(number: signal.Signals, busy: str) -> None:
    """With the status of the signal and one line that says what is kept, whatever the main thread does."""
    process = start(BUSY.format(busy=busy))
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "received SIGTERM\n"
    time.sleep(APART_SEC)
    begin = time.monotonic()
    process.send_signal(number)
    _, err = finish(process)
    assert time.monotonic() - begin < 2
    assert process.returncode == 128 + number
    assert err.count("\n") == 1
    assert f"left at once by {number.name} (status {128 + number}): every checkpoint already written is kept" in err


def test_signals_in_one_moment_are_one_request(tmp_path: Path) -> None:
    """What a launcher passes on to a process that was asked already does not cost the checkpoint."""
    process = start(SAVES, str(tmp_path / "saved"), "0.3")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    out, err = finish(process)
    assert process.returncode in {130, 143}  # the kernel delivers the two in its own order
    assert (tmp_path / "saved").exists()
    assert out == "saving\n"
    assert err.count("finishing the step, then saving; a second one leaves at once") == 1


def test_closed_terminal_does_not_cost_the_checkpoint(tmp_path: Path) -> None:
    """The run is hung up while it draws a bar and logs: it saves, and ends with the status of SIGHUP."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", SAVES, str(tmp_path / "saved"), "0.3"])  # noqa: S606
    late = threading.Timer(20, os.kill, (pid, signal.SIGKILL))
    late.start()
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.close(terminal)
    status = os.waitpid(pid, 0)[1]
    late.cancel()
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("notice", [signal.SIGUSR1, signal.SIGXCPU])
def test_notice_then_sigterm_saves(tmp_path: Path, notice: signal.Signals) -> None:
    """A batch system announces the end, again and again, and then asks for it: none of it costs the checkpoint."""
    process = start(SAVES, str(tmp_path / "saved"), str(3 * APART_SEC))
    for number in (notice, notice, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(APART_SEC)
    finish(process)
    assert process.returncode == 128 + notice
    assert (tmp_path / "saved").exists()


def test_leaving_gives_the_cursor_back() -> None:
    """A progress bar hides it; on a terminal it is shown again."""
    terminal, side = pty.openpty()
    process = start(BUSY.format(busy=SLEEPS), stderr=side)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(APART_SEC)
    finish(process)
    assert os.read(terminal, 1000).startswith(b"\x1b[?25h\r\nleft at once by SIGINT (status 130)")
    os.close(side)
    os.close(terminal)


def test_hang_up_is_no_second_request(tmp_path: Path) -> None:
    """Ctrl-C, then the terminal is closed: the run still saves."""
    process = start(SAVES, str(tmp_path / "saved"), str(APART_SEC + 0.3))
    process.send_signal(signal.SIGINT)
    time.sleep(APART_SEC)
    process.send_signal(signal.SIGHUP)
    finish(process)
    assert (tmp_path / "saved").exists()


def test_hang_up_under_nohup_is_not_heard(tmp_path: Path) -> None:
    """It was ignored when the run started, and stays so."""
    process = start(
        SAVES, str(tmp_path / "saved"), "0.1", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert process.returncode == 128 + signal.SIGTERM


def test_first_signal_is_remembered_and_said_once() -> None:
    """Handlers and the wake-up descriptor are put back."""
    before = [signal.getsignal(number) for number in SIGNALS]
    with capture_logs() as lines, StopSignal() as stop:
        stop.announce()
        assert not lines
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGTERM
        stop.announce()
        stop.announce()
    assert [(line["event"], line["signal"]) for line in lines] == [("stopping", "SIGTERM")]
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_other_threads_have_no_handlers() -> None:
    """Python sets them in the main thread only; elsewhere it works without."""
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def run() -> None:
        with StopSignal() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.received))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(before, None)]
