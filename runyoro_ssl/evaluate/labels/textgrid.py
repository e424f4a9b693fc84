"""Alignments as Praat TextGrids, long, short or JSON, read by praatio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.labels.intervals import TimedLabels, text_of
from runyoro_ssl.evaluate.labels.tiers import choose_tier


def read_textgrid(path: Path, tier: str | None = None) -> TimedLabels:
    """Read the tier of phones, or the one given, of a TextGrid. It states the length of its recording.

    Raises:
        EvaluationError: It cannot be read, is no TextGrid, or does not have the tier.
    """
    text = text_of(path)
    try:
        length_sec, tiers = _parse(text)
    except Exception as error:  # noqa: BLE001 - praatio raises whatever its parser stumbles over
        raise EvaluationError(f"{path}: not a TextGrid ({type(error).__name__}); save it anew with Praat") from None
    name = choose_tier(path, list(tiers), tier)
    return TimedLabels(path, tiers[name], stated_sec=length_sec, tier=name)


def _parse(text: str) -> tuple[float, dict[str, list[Phone]]]:
    """Its length in seconds, and the labels of each tier of intervals."""
    from praatio.utilities.textgrid_io import parseTextgridStr

    content: dict[str, Any] = parseTextgridStr(text, includeEmptyIntervals=True)
    tiers = {
        str(tier["name"]): [
            Phone(str(label).strip(), float(start), float(end)) for start, end, label in tier["entries"]
        ]
        for tier in content["tiers"]
        if tier["class"] == "IntervalTier"
    }
    return float(content["xmax"]), tiers
