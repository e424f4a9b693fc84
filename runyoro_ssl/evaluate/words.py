"""The measures of held-out speech as a person reads them, in tables and the model card: words with units, numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch

from runyoro_ssl.config import HealthConfig

IN_WORDS = {
    "contrastive_loss": "loss, nats per masked frame",
    "chance_loss": "the same by guessing",
    "accuracy": "accuracy",
    "hard_perplexity": "hard perplexity, sounds told apart",
    "diversity_loss": "unused share of the codebooks",
    "objective": "objective, what is minimised, nats",
}
"""By name, without the stage; what tells most comes first."""
LOSS = "contrastive_loss"
SHARES = ("accuracy", "diversity_loss")


def number(name: str, value: float | None) -> str:
    """The value of a measure: shares in percent; None and what is no number could not be measured."""
    if value is None or not math.isfinite(value):
        return "not measured"
    if name in SHARES:
        return f"{value:.1%}"
    return f"{value:.1f}" if name == "hard_perplexity" else f"{value:.4f}"


def sources_beside(numbers: Iterable[str]) -> list[str]:
    """The names of the sources beside the target that a validation has measured, by the names of its numbers."""
    return [name.split("/")[1] for name in numbers if fnmatch(name, f"eval/*/{LOSS}")]


def verdict(first: Mapping[str, float | None], best: Mapping[str, float | None]) -> str:
    """In a sentence, whether a model predicts held-out speech better than the first, and better than by guessing."""
    was, now = first.get("eval/contrastive_loss"), best.get("eval/contrastive_loss")
    guessing = best.get("eval/chance_loss")
    if was is None or now is None or guessing is None or not all(map(math.isfinite, (was, now, guessing))):
        return "held-out speech could not be measured"
    course = f"held-out loss {'fell' if now < was else 'did not fall'}: {was:.4f} to {now:.4f}"
    learned = now < guessing - HealthConfig().chance_margin
    return f"{course}, by guessing {guessing:.4f}" + ("" if learned else ": nothing is learned yet")
