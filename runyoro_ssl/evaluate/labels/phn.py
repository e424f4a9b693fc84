"""Alignments as lines "start end label", which TIMIT, and many programs since, write."""

from __future__ import annotations

from pathlib import Path

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.labels.intervals import TimedLabels, text_of


def read_phn(path: Path) -> TimedLabels:
    """Read a .phn file: a line for each label, times in seconds, or in samples where all are whole numbers.

    Raises:
        EvaluationError: It cannot be read, is no text, or has a line that is no "start end label".
    """
    lines = [
        (number, line.split(maxsplit=2)) for number, line in enumerate(text_of(path).splitlines(), 1) if line.strip()
    ]
    rows = [_row(path, number, words) for number, words in lines]
    whole = all(word.lstrip("-").isdigit() for _, words in lines for word in words[:2])
    return TimedLabels(path, rows, may_be_samples=whole, covers_all=True)


def _row(path: Path, number: int, words: list[str]) -> Phone:
    try:
        start, end = (float(word) for word in words[:2])
    except ValueError:
        said = " ".join(words)[:60]
        raise EvaluationError(
            f'{path} line {number}: "{said}" is not "start end label", with two numbers; mend the line'
        ) from None
    return Phone(words[2].strip() if len(words) > 2 else "", start, end)  # noqa: PLR2004 - start, end, label
