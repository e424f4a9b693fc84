"""Labelled intervals of one recording, as a file has them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.errors import EvaluationError

LENGTH_TOLERANCE_SEC = 0.5
"""By so much may the length of an alignment differ from that of its recording."""
OVERLAP_TOLERANCE_SEC = 0.001
"""Times that programs round overlap by less."""
SILENCES = frozenset(
    (
        *("", "sil", "sp", "spn", "nsn", "pau", "epi", "#h", "h#", "#", "##", "_", "-", "*", "..."),
        *("silence", "pause", "noise", "breath", "laugh", "laughter", "sil_s", "sp_s", "spn_s", "nsn_s"),
    )
)
BRACKETS = (("<", ">"), ("[", "]"), ("(", ")"), ("{", "}"))


@dataclass(frozen=True)
class TimedLabels:
    """All labels of a recording, in order, silences among them.

    Attributes:
        path: The file that has them.
        rows: What it says, times in seconds, or in samples.
        stated_sec: The length that the file itself states, seconds.
        may_be_samples: All its times are whole numbers, so that they may count samples.
        covers_all: Such a file labels a recording to its end, silence too: one that stops early is of another.
    """

    path: Path
    rows: Sequence[Phone]
    stated_sec: float | None = None
    may_be_samples: bool = False
    covers_all: bool = False


def is_silence(label: str) -> bool:
    """Whether a label stands for no phone: silence, a pause, noise, nothing, or a remark in brackets."""
    bare = label.strip().lower()
    bracketed = len(bare) > 1 and any(bare.startswith(left) and bare.endswith(right) for left, right in BRACKETS)
    return bare in SILENCES or bracketed


def checked(labels: TimedLabels) -> TimedLabels:
    """The same labels, sorted.

    Raises:
        EvaluationError: There are none; or an interval begins before 0, ends before it begins, or overlaps another.
    """
    rows = sorted(labels.rows, key=lambda row: (row.start_sec, row.end_sec))
    if not rows:
        raise EvaluationError(f"{labels.path}: no label in it; remove it, or align the recording again")
    tolerance = 1.0 if labels.may_be_samples else OVERLAP_TOLERANCE_SEC
    end, last = 0.0, rows[0]
    for row in rows:
        if row.start_sec < 0 or row.end_sec < row.start_sec:
            raise EvaluationError(f"{labels.path}: {_words(row)} ends before it begins, or begins before 0; mend it")
        if row.start_sec < end - tolerance:
            raise EvaluationError(
                f"{labels.path}: {_words(last)} and {_words(row)} overlap; mend it, or give a tier without overlaps"
            )
        end, last = max(end, row.end_sec), row
    return TimedLabels(labels.path, rows, labels.stated_sec, labels.may_be_samples, labels.covers_all)


def _words(row: Phone) -> str:
    return f'"{row.symbol}" from {row.start_sec:g} to {row.end_sec:g}'
