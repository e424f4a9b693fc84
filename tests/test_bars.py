"""A terminal that can be read: log lines whole and once beside bars, and bars that fit their line."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
from rich.progress import TextColumn

from runyoro_ssl import logs
from runyoro_ssl.bars import progress
from support.terminal import show

EVENTS = 30
NUMBERS = ("loss 4.123", "accuracy 12.1%", "soft perplexity 210", "17.1 audio s/s")


def events_beside_bars() -> None:
    """Log lines of all lengths, beside a bar and beside one within it."""
    logs.configure()
    log = logs.get_logger()
    details = [TextColumn(number) for number in NUMBERS]
    with progress("steps", *details) as bar:
        task = bar.add_task("Training", total=100_000, completed=12_345)
        for number in range(EVENTS):
            log.info("event", number=f"<{number}>", text=f"{'x' * 13 * number}|")
            if number % 7 == 0:
                with progress("batches", is_transient=True) as inner:
                    inner_task = inner.add_task("Validating", total=2)
                    inner.advance(inner_task)
                    log.warning("alarm", number=f"<w{number}>")
                    logs.console.print(f"step {number} eval", soft_wrap=True)
            bar.advance(task)
            time.sleep(0.02)


@pytest.mark.parametrize("columns", [80, 110, 300])
def test_every_event_is_there_once_and_whole(columns: int) -> None:
    """Above the bar, never glued to it or erased by it; wrapped by the terminal alone."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; import test_bars; test_bars.events_beside_bars()"
    shown = show([sys.executable, "-c", code], columns=columns)
    assert shown.status == 0
    found = re.findall(r"event number=<(\d+)> text=(x*)\|", shown.text)
    assert found == [(str(number), "x" * 13 * number) for number in range(EVENTS)]
    assert re.findall(r"alarm number=<w(\d+)>", shown.text) == [str(number) for number in range(0, EVENTS, 7)]
    for line in shown.lines:
        assert len(re.findall(r"\[(?:info|warning) *\]|eval|Training", line)) <= 1
    assert sum("Training" in line for line in shown.lines) == 1
    assert not any("Validating" in line for line in shown.lines)


@pytest.mark.parametrize(("columns", "kept"), [(300, 4), (130, 3), (110, 2), (80, 0), (50, 0)], ids=str)
def test_narrow_terminal_drops_numbers_first(columns: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, their total and the time left stay, in one line."""
    monkeypatch.setattr(logs.console, "width", columns)
    bar = progress("steps", *map(TextColumn, NUMBERS))
    bar.add_task("Training", total=100_000, completed=12_345)
    with logs.console.capture() as caught:
        logs.console.print(bar.get_renderable())
    (line,) = caught.get().splitlines()
    assert "12345/100000 steps" in line
    assert "left -:--:--" in line
    assert [number in line for number in NUMBERS] == [index < kept for index in range(len(NUMBERS))]


def test_log_lines_go_to_files_unwrapped(tmp_path: Path) -> None:
    """A line is an event, however long; there is no bar."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; import test_bars; test_bars.events_beside_bars()"
    log = tmp_path / "log"
    shown = show(["sh", "-c", f"{sys.executable} -c '{code.replace(chr(39), chr(34))}' 2> {log}"], columns=80)
    lines = log.read_text().splitlines()
    assert (shown.status, len(shown.text.strip())) == (0, 0)
    assert sum("event number" in line for line in lines) == EVENTS
    assert "Training" not in log.read_text()
