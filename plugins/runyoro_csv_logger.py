"""Example plugin: a logging backend that writes validation results as CSV, for a spreadsheet.

Enable it:

    invoke train --set 'plugins.loggers=["console", "jsonl", "tensorboard", "csv"]'
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runyoro_ssl import hookimpl
from runyoro_ssl.plugin.spec import Run

requires_runyoro_ssl = ">=0.1,<1"

COLUMNS = ("step", "epoch", "eval/objective", "eval/accuracy", "eval/hard_perplexity")


@dataclass
class CsvLogger:
    """Appends one row for each validation to a file in the run's folder."""

    file_name: str = "validation.csv"

    def open(self, run: Run) -> None:
        """Write the header of a new file; a resumed run appends."""
        self._path = run.output_dir / self.file_name
        if run.is_new:
            self._path.unlink(missing_ok=True)
        if not self._path.exists():
            self._append(COLUMNS)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called for every logged step; only validations have `eval/…` numbers."""
        if "eval/objective" in metrics:
            self._append([step, *(f"{metrics[name]:.6g}" for name in COLUMNS[1:])])

    def close(self, status: str) -> None:
        """`status` is "finished", "stopped" or "failed"; each row is already on disk."""

    def _append(self, row: Any) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)


@hookimpl
def runyoro_logging_backends(register: Callable[[str, Callable[..., Any]], None]) -> None:
    """Offer the backend under the name "csv"."""
    register("csv", CsvLogger)
