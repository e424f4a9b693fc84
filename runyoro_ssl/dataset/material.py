"""What a dataset is made of, in sums: what may be told of it where the dataset itself stays at home."""

from __future__ import annotations

import json
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
