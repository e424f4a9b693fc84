"""Nobody listening costs nothing: readers that go, hang, or never were; what a terminal cannot show."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Task, TaskID

from runyoro_ssl import logs, streams
from runyoro_ssl.bars import DescriptionColumn
from runyoro_ssl.commands.ending import command
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.logs import console
from runyoro_ssl.redaction import printable
from runyoro_ssl.streams import LastingFile


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading end and the writing end of a pipe of 4 KiB."""
    reading, writing = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:  # closed by the test
            continue


def test_what_is_read_is_whole(pipe: tuple[int, int]) -> None:
    """As long as somebody reads, nothing is changed."""
    assert LastingFile(pipe[1]).write(b"one\ntwo\n") == 8
    assert os.read(pipe[0], 100) == b"one\ntwo\n"


def test_a_reader_that_went_away(pipe: tuple[int, int]) -> None:
    """Writing goes on without an error, into nothing; other writers to that descriptor are spared as well."""
    lasting = LastingFile(pipe[1])
    os.close(pipe[0])
    assert lasting.write(b"nobody") == 6
    assert os.write(pipe[1], b"another writer") == 14


def test_a_reader_that_hangs_is_waited_for_once(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Then lines are dropped until it reads again; a line says how much is missing."""
    monkeypatch.setattr(streams, "PATIENCE_SEC", 0.2)
    lasting, started = LastingFile(pipe[1]), time.monotonic()
    for _ in range(100):
        assert lasting.write(b"x" * 999 + b"\n") == 1000
    assert time.monotonic() - started < 5
    os.read(pipe[0], 1 << 20)
    lasting.write(b"here again\n")
    assert b"bytes are missing here" in (seen := os.read(pipe[0], 1 << 20))
    assert seen.endswith(b"here again\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is of Linux")
def test_a_full_disk_may_have_room_again() -> None:
    """What does not fit is dropped, and the descriptor stays what it is."""
    with Path("/dev/full").open("wb") as full:
        assert LastingFile(full.fileno()).write(b"line\n") == 5
        assert Path(f"/proc/self/fd/{full.fileno()}").readlink() == Path("/dev/full")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;pwned\x07name", "\\x1b]0;pwned\\x07name"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb\x08c\x9bd", "a\\rb\\x08c\\x9bd"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("lines\nand\ttabs, ŋ and ☃", "lines\nand\ttabs, ŋ and ☃"),
    ],
)
def test_control_characters_never_reach_a_terminal(text: str, shown: str) -> None:
    """They are shown as escapes; what people write stays."""
    assert printable(text) == shown


NASTY = "\x1b]0;pwned\x07\u202e"


def test_no_way_out_lets_a_control_character_through(
    capfd: pytest.CaptureFixture[str], run_task: Callable[[str], tuple[int, str, str]], tmp_path: Path
) -> None:
    """Log lines and their keys, tables, lines to copy, bars, tracebacks, errors, and what the command line says."""
    logs.configure()
    values: dict[str, Any] = {f"key{NASTY}": NASTY, "path": Path(NASTY), "found": [NASTY, ValueError(NASTY)]}
    logs.get_logger().info(f"a {NASTY}", **values)
    logs.print_table(NASTY, [NASTY], [[NASTY]])
    logs.print_lines([NASTY])
    with console.capture() as drawn:
        console.print(DescriptionColumn().render(_task(f"[red]{NASTY}")))

    @command
    def buggy() -> None:
        raise LookupError(NASTY)

    @command
    def mistaken() -> None:
        raise ConfigError(NASTY)

    @command
    def without_rights() -> None:
        raise PermissionError(13, "Permission denied", NASTY)

    for task in (buggy, mistaken, without_rights):
        with pytest.raises(SystemExit):
            task()
    said = "".join(capfd.readouterr()) + drawn.get()
    for words in (NASTY, f"train {NASTY}", f"train --{NASTY}", f"train --output-dir '{tmp_path}' --set 'x{NASTY}=1'"):
        status, out, err = run_task(words)
        assert status == 1
        said += out + err
    assert "\\x1b" in said
    assert "[red]" in said
    assert not {"\x1b", "\x07", "\u202e"} & {*said}


def _task(description: str) -> Task:
    return Task(TaskID(0), description, total=1, completed=0, _get_time=time.monotonic)


PROGRAM = """
import sys
from runyoro_ssl.commands.ending import command
from runyoro_ssl.errors import ConfigError
from runyoro_ssl import logs

@command
def work():
    for step in range(100):
        logs.get_logger().info("a_step", path="é ŋ ☃ \\udce9", step=step, more="x" * 500)
        logs.print_table("table \\udce9", ["é"], [["☃"]])
        logs.print_lines(["a line ☃"])
        logs.console.print("drawn ☃")
    with open(sys.argv[1], "w") as file:
        file.write(str(file.fileno()))
    if len(sys.argv) > 2:
        raise ConfigError("wrong ☃")

work()
print("the end ☃")
"""
"""Every way to a stream, and a file that is opened last."""


def run(work: str, tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run it by a shell's line; `$RUN` is the program."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = f"{sys.executable} {program} {tmp_path / 'done'} {' '.join(words)}"
    env = {**os.environ, "RUN": command, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(["bash", "-c", work], env=env, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "work",
    [
        "$RUN >&-",
        "$RUN 2>&-",
        "$RUN <&- >&- 2>&-",
        "set -o pipefail; $RUN | head -1",
        "set -o pipefail; $RUN 2>&1 | head -1",
        "set -o pipefail; $RUN 2>&1 | true",
        "set -o pipefail; $RUN 2>&1 | (exec 0<&-; sleep 1)",
        pytest.param("$RUN > /dev/full 2>&1", marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")),
        "PYTHONIOENCODING=latin-1 $RUN",
        "PYTHONIOENCODING=ascii:strict $RUN",
        "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $RUN",
        "TERM=dumb $RUN",
    ],
)
def test_the_status_is_that_of_the_work(work: str, tmp_path: Path) -> None:
    """It was done, and then the input was wrong, whatever becomes of the streams; their numbers go to no file."""
    done = run(work, tmp_path, "fails")
    assert done.returncode == 1, done.stderr[-2000:]
    assert int((tmp_path / "done").read_text()) > 2


@pytest.mark.parametrize("columns", ["0", "1", "-5", "many", "100000"])
def test_any_width_shows_every_line(columns: str, tmp_path: Path) -> None:
    """A terminal that says that it has no columns has some."""
    done = run("$RUN", tmp_path, COLUMNS=columns)
    assert done.returncode == 0
    assert done.stderr.count(b"a_step") == 100
    assert done.stderr.count(b"drawn") == 100


@pytest.mark.parametrize(("asked", "is_coloured"), [("0", False), ("false", False), ("1", True), ("", False)])
def test_colour_is_forced_where_that_is_asked(asked: str, tmp_path: Path, *, is_coloured: bool) -> None:
    """FORCE_COLOR=0 says no."""
    done = run("$RUN", tmp_path, FORCE_COLOR=asked)
    assert done.returncode == 0
    assert (b"\x1b[" in done.stderr + done.stdout) == is_coloured


@pytest.mark.parametrize("words", ["train --output-dir", "prepare --manifest-path", "smoke --work-dir"])
def test_a_name_that_is_no_utf8_is_refused_in_a_line(
    words: str, run_task: Callable[[str], tuple[int, str, str]]
) -> None:
    """Before anything is done: neither run.toml nor a manifest could say it."""
    status, _, said = run_task(f"{words} o\udce9")
    assert status == 1
    assert "not UTF-8; rename it" in said
