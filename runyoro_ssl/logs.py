"""What a user sees: structured log lines on stderr, tables; libraries kept quiet."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Collection, Iterable, MutableMapping
from threading import RLock
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runyoro_ssl.redaction import printable, redact

QUIETED = (
    *("transformers", "datasets", "huggingface_hub", "httpx", "accelerate"),
    *("torch", "tensorboard", "bitsandbytes"),
)
WIDTH_IN_FILES = 120
"""Columns of a table that goes to a file and not to a terminal."""
LEAST_WIDTH = 20
"""Fewer columns are none."""


class OneWriter(Console):
    """A console on which each print is one step, from what it erases to what it draws again.

    rich counts the lines of a bar to erase before it draws, and not at once: where a second bar comes or goes between,
    by another thread, the last line above it would be erased. `bars` has its bars wait for the same lock.
    """

    @property
    def lock(self) -> RLock:
        """Its own, which may be taken again by who has it."""
        return self._lock

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, while nobody else does."""
        with self.lock:
            super().print(*objects, **options)


def _environment() -> dict[str, str]:
    """The environment, without a width that no line fits into: some terminals say 0 columns.

    And without a FORCE_COLOR that says no, which rich takes for a yes.
    """
    columns, colour = os.environ.get("COLUMNS", ""), os.environ.get("FORCE_COLOR", "")
    not_meant = {"COLUMNS"} if columns.isdecimal() and int(columns) < LEAST_WIDTH else set()
    not_meant |= {"FORCE_COLOR"} if colour.lower() in ("0", "false", "no") else set()
    return {name: value for name, value in os.environ.items() if name not in not_meant}


console = OneWriter(stderr=True, highlight=False, emoji=False, _environ=_environment())
"""Progress bars (`bars`) and log lines share it, so that neither erases the other."""


def _printable_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    shown = dict(redact(event))
    return {printable(name): printable(value) if isinstance(value, str) else value for name, value in shown.items()}


def configure() -> None:
    """Set up log lines and silence the libraries' own. Call once, at the start of a task."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _printable_event,
            structlog.dev.ConsoleRenderer(colors=console.is_terminal, pad_event_to=0, sort_keys=False),
        ],
        # Not print: it writes a line and its end one after the other, and a bar that is shown comes between.
        logger_factory=structlog.WriteLoggerFactory(file=_ConsoleFile()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    quiet_libraries()


def is_configured() -> bool:
    """Whether somebody has set up log lines, this module or the program around it."""
    return structlog.is_configured()


def quiet_libraries() -> None:
    """No warning walls: transformers, datasets, torch and the hub client report through our errors instead."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # Two set the level of their loggers when they are imported, which may be later.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in QUIETED:
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def get_logger() -> Any:
    """A structlog logger: fixed event names, values as keys."""
    return structlog.get_logger()


def print_table(title: str, columns: list[str], rows: list[list[str]], *, whole: Collection[int] = (0,)) -> None:
    """A table on stdout, without secrets: the result of a task, as against its log on stderr.

    Columns in `whole` are never broken; where the terminal is narrow, the others are.
    """
    table = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(Text(printable(column)), justify="left", overflow="fold", no_wrap=index in whole)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(highlight=False, emoji=False, width=table_width(), _environ=_environment()).print(table)


def table_width() -> int:
    """Columns that a table on stdout may have: those of the terminal, if it goes to one."""
    return Console(_environ=_environment()).width if sys.stdout.isatty() else WIDTH_IN_FILES


def print_lines(lines: Iterable[str]) -> None:
    """Lines on stdout, without secrets and never broken: what stands in them can be copied."""
    for line in lines:
        Console(highlight=False, emoji=False, markup=False).print(printable(line), soft_wrap=True)


class _ConsoleFile:
    """File-like front of `console` for structlog."""

    def write(self, text: str) -> None:
        console.out(text, end="", highlight=False)

    def flush(self) -> None:
        console.file.flush()
