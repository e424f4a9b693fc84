"""The numbers of a run as curves: `metrics.jsonl` read as far as it goes."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from runyoro_ssl.builtins.loggers import METRICS

DRAWN = frozenset(
    [
        *(f"{stage}/{name}" for stage in ("train", "eval") for name in ("contrastive_loss", "chance_loss", "accuracy")),
        *("train/soft_perplexity", "eval/hard_perplexity", "train/learning_rate", "train/grad_norm"),
    ]
)
"""What the page shows; the other numbers are not kept."""
OF_A_SOURCE = re.compile(r"train/hours/[^/]+|eval/[^/]+/contrastive_loss")
"""What it shows of each source, where there are several."""

Logged = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Steps and values, float64 (N,), by name: `train/contrastive_loss`. NaN: it was logged, and was no number."""


def read_logged(folder: Path) -> Logged:
    """Read the numbers of a run; none where nothing was logged. A line that is being written is left out."""
    found: dict[str, dict[float, float]] = defaultdict(dict)
    try:
        with (folder / METRICS).open("rb") as file:
            for line in file:
                _take(line, found)
    except FileNotFoundError:
        return {}
    return {name: _as_arrays(values) for name, values in found.items()}


def last_step(logged: Logged) -> int:
    """The last step of which anything is known."""
    return max((int(steps[-1]) for steps, _ in logged.values()), default=0)


def _take(line: bytes, found: dict[str, dict[float, float]]) -> None:
    try:
        numbers = json.loads(line)
        step = float(numbers["step"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return
    if not math.isfinite(step):
        return
    for name in (name for name in numbers if name in DRAWN or OF_A_SOURCE.fullmatch(name)):
        value = numbers[name]
        found[name][step] = float(value) if isinstance(value, int | float) else math.nan


def _as_arrays(values: Mapping[float, float]) -> tuple[np.ndarray, np.ndarray]:
    steps = np.array(sorted(values), dtype=np.float64)
    return steps, np.array([values[step] for step in steps], dtype=np.float64)
