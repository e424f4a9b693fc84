"""`train --recipe`: settings for an amount of speech, chosen by its hours, and shown with where they are from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from runyoro_ssl.config import Config
from runyoro_ssl.config.recipe import OF_STEPS, Recipe, recipe_for, recipe_named
from runyoro_ssl.dataset.layout import REPORT, TRAIN
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.logs import get_logger, print_table
from runyoro_ssl.option import AUTO
from runyoro_ssl.small_files import read_small

log = get_logger()


def choose_recipe(name: str, config: Config) -> Recipe:
    """The recipe that was asked for; of `auto`, that for the hours of the dataset.

    Raises:
        ConfigError: The dataset does not tell its hours.
    """
    if name != AUTO:
        return recipe_named(name)
    hours = _hours(config)
    recipe = recipe_for(hours)
    log.info("recipe_chosen", recipe=recipe.name, because=f"the dataset has {hours:.2f} h to learn from")
    return recipe


def show_recipe(recipe: Recipe, config: Config) -> None:
    """Print what a recipe sets, why, and what was given in its place; of several processes, the first does."""
    if os.environ.get("RANK", "0") not in ("", "0"):
        return
    now = config.model_dump(mode="json")
    rows = []
    for one in recipe.advised:
        section, name = one.setting.split(".")
        value = now[section][name]
        by = "the length of the run" if name in OF_STEPS and value is None else "it"
        because = one.because if value == one.value else f"you gave {by}; the recipe has {_said(one.value)}"
        rows.append([one.setting, _said(value), because])
    rows = rows or [["everything", "as usual", "nothing else is shown to be better for so much speech"]]
    print_table(f"Recipe {recipe.name}", ["setting", "value", "because"], rows)


def _said(value: Any) -> str:
    if value is None:
        return "as usual"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _hours(config: Config) -> float:
    """Hours of the training split of the target."""
    folder = config.train.processed_dataset_path
    try:
        report: Mapping[str, Any] = json.loads(read_small(folder / REPORT))
        hours = float(report["splits"][TRAIN]["seconds"]) / 3600
        problem = None if 0 < hours < math.inf else f"{hours:g} h"
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        problem = type(error).__name__
    if problem:
        raise ConfigError(
            f"{folder / REPORT} does not tell how much speech there is ({problem}); give --recipe minutes, hours or "
            "days, or prepare the dataset anew"
        )
    return hours
