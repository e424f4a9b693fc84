"""Settings for an amount of speech, as others have published them; what none has shown to be better is as usual.

They are starting points: `invoke evaluate` says what a run with them was worth. What of them was measured here, in
miniature: docs/recipe.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

RecipeChoice = Literal["auto", "minutes", "hours", "days"]
AUGMENTATION = "augmented copies helped where there is little speech: Wav2Vec-Aug, 2022, arXiv 2206.13654"
MIXTURES = "kept only if better on held-out speech than the model itself: Speech-FT, 2025, arXiv 2502.12672"
SHORT = "a low rate that stays, for many steps, where there is under an hour: SpidR-Adapt, 2025, arXiv 2512.21204"

OF_STEPS = ("max_steps", "warmup_steps")
LENGTHS = ("num_train_epochs", "max_steps")
"""Where one of these is given, `OF_STEPS` say nothing: they are of a run of another length."""


@dataclass(frozen=True)
class Advised:
    """A setting, the value that is advised, and why."""

    setting: str
    value: Any
    because: str


@dataclass(frozen=True)
class Recipe:
    """What is advised for an amount of speech. `below_hours`: for less than that; None: for any amount."""

    name: RecipeChoice
    below_hours: float | None
    advised: tuple[Advised, ...]

    def beside(self, given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What it sets, by section and name, where this was given: neither steps nor warm-up of another length."""
        found: dict[str, dict[str, Any]] = {}
        has_length = any(name in given.get("train", {}) for name in LENGTHS)
        for one in self.advised:
            section, name = one.setting.split(".")
            if name not in OF_STEPS or not has_length:
                found.setdefault(section, {})[name] = one.value
        return found


FOR_LITTLE = (
    Advised("plugins.augmentations", ["noise", "speed"], AUGMENTATION),
    Advised("train.interpolate", [0.5, 0.75], MIXTURES),
)
RECIPES = (
    Recipe(
        "minutes",
        1.0,
        (
            Advised("train.learning_rate", 5e-6, SHORT),
            Advised("train.constant_after_warmup", value=True, because=SHORT),
            Advised("train.warmup_steps", 600, SHORT),
            Advised("train.max_steps", 8000, SHORT),
            *FOR_LITTLE,
        ),
    ),
    Recipe("hours", 20.0, FOR_LITTLE),
    Recipe("days", None, ()),
)


def recipe_named(name: str) -> Recipe:
    """The recipe of this name."""
    return next(recipe for recipe in RECIPES if recipe.name == name)


def recipe_for(hours: float) -> Recipe:
    """The recipe for so many hours of speech."""
    return next(recipe for recipe in RECIPES if recipe.below_hours is None or hours < recipe.below_hours)
