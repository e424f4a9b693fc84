"""What a dataset is made of, in sums: what may be told of it where the dataset itself stays at home."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runyoro_ssl.dataset.layout import HUB_DATASET, REPORT, TRAIN


def describe_material(dataset_dir: Path) -> dict[str, Any] | None:
    """Sums over a prepared dataset, from its report; None where that cannot be read.

    `seconds` of all kept clips; `recordings` and `speakers` of the training split, as counts, 0 speakers where none is
    named; `licences`: what recordings state, and the seconds of it, as pairs (in a mapping, an address with a token
    would look like the name of a secret); `hub_dataset`: the dataset of the hub that it was made from, or None.
    """
    try:
        report = json.loads((dataset_dir / REPORT).read_text(encoding="utf-8"))
        train = report["splits"][TRAIN]
        return {
            "seconds": float(report["seconds_kept"]),
            "recordings": int(train["recordings"]),
            "speakers": int(train["speakers"]),
            "licences": [[str(name), float(seconds)] for name, seconds in report.get("licences", {}).items()],
            HUB_DATASET: report.get(HUB_DATASET),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def describe_together(dataset_dirs: Sequence[Path]) -> dict[str, Any] | None:
    """As `describe_material`, of several datasets together; None where one of them cannot be read.

    `hub_dataset` is that of the first.
    """
    every = [describe_material(folder) for folder in dataset_dirs]
    known = [one for one in every if one is not None]
    if len(known) < len(every):
        return None
    speakers = [one["speakers"] for one in known]
    licences: dict[str, float] = {}
    for text, seconds in (pair for one in known for pair in one["licences"]):
        licences[text] = licences.get(text, 0.0) + seconds
    return {
        "seconds": sum(one["seconds"] for one in known),
        "recordings": sum(one["recordings"] for one in known),
        "speakers": sum(speakers) if all(speakers) else 0,
        "licences": [[text, seconds] for text, seconds in licences.items()],
        HUB_DATASET: known[0][HUB_DATASET],
    }
