"""Labelled intervals of one recording, as a file has them, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.disk.text import read_text
from runyoro_ssl.errors import EvaluationError, ManifestError

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
        tier: The name of the tier that they are of, in a file of several.
        covers_all: Such a file labels a recording to its end, silence too: one that stops early is of another.
    """

    path: Path
    rows: Sequence[Phone]
    stated_sec: float | None = None
    may_be_samples: bool = False
    covers_all: bool = False
    tier: str | None = None


def text_of(path: Path) -> str:
    """The text of an alignment.

    Raises:
        EvaluationError: It cannot be read, or is no text.
    """
    try:
        text, _ = read_text(path)
    except ManifestError as error:
        raise EvaluationError(str(error)) from None
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror}); give yourself the right to") from None
    return text


def is_silence(label: str) -> bool:
    """Whether a label stands for no phone: silence, a pause, noise, nothing, or a remark in brackets."""
    bare = label.strip().lower()
    bracketed = len(bare) > 1 and any(bare.startswith(left) and bare.endswith(right) for left, right in BRACKETS)
    return bare in SILENCES or bracketed


def checked(labels: TimedLabels) -> TimedLabels:
    """The same labels, sorted.

    Raises:
        EvaluationError: There are none; or an interval begins before 0, or ends before it begins.
    """
    rows = sorted(labels.rows, key=lambda row: (row.start_sec, row.end_sec))
    if not rows:
        raise EvaluationError(f"{labels.path}: no label in it; remove it, or align the recording again")
    for row in rows:
        if row.start_sec < 0 or row.end_sec < row.start_sec:
            raise EvaluationError(f"{labels.path}: {_words(row)} ends before it begins, or begins before 0; mend it")
    return replace(labels, rows=rows)


def refuse_overlaps(labels: TimedLabels, a_second: float) -> None:
    """Refuse labels, sorted, of which one begins before another ends. `a_second`: what their times count for one.

    Raises:
        EvaluationError: Two overlap, by more than is rounded.
    """
    last = labels.rows[0]
    for row in labels.rows[1:]:
        if row.start_sec < last.end_sec - OVERLAP_TOLERANCE_SEC * a_second:
            raise EvaluationError(
                f"{labels.path}: {_words(last)} and {_words(row)} overlap; mend it, or give a tier without overlaps"
            )
        last = max(last, row, key=lambda one: one.end_sec)


def _words(row: Phone) -> str:
    return f'"{row.symbol}" from {row.start_sec:g} to {row.end_sec:g}'
