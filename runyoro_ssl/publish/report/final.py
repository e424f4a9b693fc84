"""Which model became the final one of a run that compared several: all of them, by held-out loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from runyoro_ssl.page.amounts import figure

SHOWN = {
    "fit.below_guessing": ("loss below that of guessing, nats", ""),
    "fit.contrastive_loss": ("loss, nats", ""),
    "fit.accuracy": ("accuracy", "%"),
    "fit.hard_perplexity": ("codes in use", ""),
}
"""Measures by key: their words and their unit."""


@dataclass(frozen=True)
class FinalShown:
    """What became the final model, why, and a row for each that was measured."""

    sentence: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def final_of(result: Mapping[str, Any]) -> FinalShown | None:
    """What a run's result.json says of it; None where nothing was compared, or it is damaged."""
    with suppress(LookupError, TypeError, ValueError, AttributeError):
        found = result["final_model"]
        rows = [
            [
                str(one["name"]),
                *(figure(one["values"].get(key), unit) for key, (_, unit) in SHOWN.items()),
                str(one["verdict"] or "what the others are compared with"),
            ]
            for one in found["candidates"]
        ]
        header = ["model", *(words for words, _ in SHOWN.values()), "beside the one kept so far"]
        return FinalShown(f"It is: {found['name']}; {found['why']}.", header, rows)
    return None
