"""Alignments as ELAN documents (.eaf), read by pympi."""

from __future__ import annotations

from pathlib import Path

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.labels.intervals import TimedLabels
from runyoro_ssl.evaluate.labels.tiers import choose_tier

MS = 1000.0


def read_elan(path: Path, tier: str | None = None) -> TimedLabels:
    """Read the tier of phones, or the one given, of an ELAN document. It may annotate a part of its recording only.

    Raises:
        EvaluationError: It cannot be read, is no ELAN document, or does not have the tier.
    """
    from pympi.Elan import Eaf

    try:
        document = Eaf(str(path), suppress_version_warning=True)
    except Exception as error:  # noqa: BLE001 - pympi raises whatever its parser stumbles over, a bare Exception too
        raise EvaluationError(f"{path}: not an ELAN document ({error}); save it anew with ELAN") from None
    name = choose_tier(path, list(document.get_tier_names()), tier)
    try:
        rows = [
            Phone(str(value or "").strip(), start / MS, end / MS)
            for start, end, value, *_ in document.get_annotation_data_for_tier(name)
        ]
    except (KeyError, TypeError):
        raise EvaluationError(f'{path}: tier "{name}" has annotations without times; align them in ELAN') from None
    return TimedLabels(path, rows, tier=name)
