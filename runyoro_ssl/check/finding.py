"""What a check found: a row of the table and of `doctor.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.errors import describe

Verdict = Literal["ok", "slow", "wrong", "avoid", "not done"]
"""`avoid`: wrong, in a way that a run here does not take."""
SMALLER = "smaller micro-batches (hardware.batch_seconds, with hardware.plan_seconds as a run's table has it)"
"""What takes less memory; alone, `batch_seconds` given by hand would change what is learned."""
PATH = re.compile(r"(?:[A-Za-z]:[\\/]|~?/|\\\\)[^\s'\",;:)]*[\w)]|\w+://\S+")
"""A path or an address, of which `doctor.json` holds none."""
MOST_OF_A_MESSAGE = 300


@dataclass(frozen=True)
class Finding:
    """A row: of which check, what was looked at, what was seen and expected, what it means, what to do about it.

    `numbers`: the same for programs, JSON values with the unit in their names.
    """

    check: str
    what: str
    value: str
    expected: str
    verdict: Verdict
    advice: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The row of `doctor.json`."""
        return {
            "check": self.check,
            "what": self.what,
            "value": self.value,
            "expected": self.expected,
            "verdict": self.verdict,
            "advice": self.advice,
            **self.numbers,
        }


def failed(check: str, what: str, error: BaseException) -> Finding:
    """The row of what could not be looked at to its end: memory that ran out, or whatever was raised."""
    said = without_paths(" ".join(describe(error).split()))[:MOST_OF_A_MESSAGE]
    if is_out_of_memory(error):
        advice = f"close what else uses the device; train in {SMALLER}"
        return Finding(check, what, "out of memory", "fits", "wrong", advice, {"error": said})
    return Finding(check, what, said, "runs to its end", "wrong", "send doctor.json", {"error": said})


def of_another_way(row: Finding) -> Finding:
    """The row of a way that a run here does not take: what is wrong with it is not wrong with this machine."""
    return replace(row, verdict="avoid") if row.verdict == "wrong" else row


def not_done(check: str, what: str, why: str, advice: str = "") -> Finding:
    """The row of what was not looked at."""
    return Finding(check, what, why, "", "not done", advice)


def without_paths(text: str) -> str:
    """A message in which no folder, file of the user's, or address stands."""
    return PATH.sub("[path]", text)


def number_or_none(value: float) -> float | None:
    """A number as JSON has it: NaN and infinity are none there."""
    return value if value - value == 0 else None
