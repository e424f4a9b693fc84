"""Rows for people, and `doctor.json` for sending."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from runyoro_ssl import __version__
from runyoro_ssl.bench.measure import describe_machine
from runyoro_ssl.check.finding import Finding
from runyoro_ssl.check.settings import CheckSettings
from runyoro_ssl.disk.durable import replace_file
from runyoro_ssl.disk.ours import is_json_of, refuse_foreign
from runyoro_ssl.disk.temporary import TEMPORARY
from runyoro_ssl.errors import ConfigError

COLUMNS = ["check", "what", "seen", "expected", "verdict", "what to do"]
FORMAT = 1


def cells(row: Finding) -> list[str]:
    """A row of the table."""
    return [row.check, row.what, row.value, row.expected, row.verdict, row.advice]


def summary(rows: Sequence[Finding]) -> str:
    """How many rows have which verdict: `40 ok, 1 slow`."""
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def is_wrong(rows: Sequence[Finding]) -> bool:
    """Whether a row says that something is wrong."""
    return any(row.verdict == "wrong" for row in rows)


class Record:
    """The writer of `doctor.json`: whole after every row, so that a check that is killed leaves what it found.

    Raises:
        ConfigError: It cannot be written where it was asked for; nothing was measured, and an older one is as it was.
    """

    def __init__(self, settings: CheckSettings) -> None:
        self._settings, self._path = settings, settings.json
        self._machine = describe_machine(settings.device)
        self._started = time.monotonic()
        self._rows: list[Finding] = []
        self._problem: OSError | None = None
        probe = self._path.parent / f"{TEMPORARY}{self._path.name}"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_dir():
                raise IsADirectoryError(21, "it is a folder")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error) from None
        refuse_foreign(self._path, is_json_of("machine", "rows"), "a result of doctor", "--json")

    def add(self, row: Finding) -> None:
        """Write it with one row more. What cannot be written now may be with the next row."""
        self._rows.append(row)
        try:
            replace_file(self._path, json.dumps(self._to_json(), indent=2, allow_nan=False) + "\n")
            self._problem = None
        except OSError as error:
            self._problem = error

    def close(self) -> None:
        """Raise ConfigError if the last row is not in the file."""
        if self._problem is not None:
            raise self._unwritable(self._problem)

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"--json {self._path}: cannot be written ({error.strerror or error}); give another file with --json"
        )

    def _to_json(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "format": FORMAT,
            "runyoro_ssl": __version__,
            "machine": self._machine,
            "device": settings.device,
            "way": asdict(settings.way),
            "clip_lengths": settings.clip_lengths,
            "size": settings.size,
            "minutes": settings.minutes,
            "seconds_taken": round(time.monotonic() - self._started, 1),
            "verdicts": dict(Counter(row.verdict for row in self._rows)),
            "rows": [row.to_json() for row in self._rows],
        }
