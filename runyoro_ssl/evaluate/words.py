"""The measures of held-out speech as a person reads them, in tables and the model card: words with units, numbers."""

from __future__ import annotations

import math

IN_WORDS = {
    "contrastive_loss": "loss, nats per masked frame",
    "chance_loss": "the same by guessing",
    "accuracy": "accuracy",
    "hard_perplexity": "hard perplexity, sounds told apart",
    "diversity_loss": "unused share of the codebooks",
    "objective": "objective, what is minimised, nats",
}
"""By name, without the stage; what tells most comes first."""
SHARES = ("accuracy", "diversity_loss")


def number(name: str, value: float | None) -> str:
    """The value of a measure: shares in percent; None and what is no number could not be measured."""
    if value is None or not math.isfinite(value):
        return "not measured"
    if name in SHARES:
        return f"{value:.1%}"
    return f"{value:.1f}" if name == "hard_perplexity" else f"{value:.4f}"
