"""What is asked for: a target, pools, and how much of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runyoro_ssl.config import FittedHardware, PrepareConfig


@dataclass(frozen=True)
class DonorsRequest:
    """What is asked for.

    Attributes:
        target: A prepared dataset; what it holds out is not heard.
        pools: Prepared datasets to choose from.
        hours: That are wanted.
        output_dir: Of the new dataset.
        base: Folder of the base model; `base_name`: as it was given.
        hardware: Where it computes, and in what.
        layer: That is heard; None: the middle one.
        num_units: Of k-means.
        max_speaker_share: Of the hours, that one speaker or recording gives at most.
        max_target_minutes: Of the target, that are heard.
        cache_dir: Where units are kept.
        prepare: How clips are held out.
        seed: Of all that is drawn.
        overwrite: Replace donors that are there.
    """

    target: Path
    pools: tuple[Path, ...]
    hours: float
    output_dir: Path
    base: Path
    base_name: str
    hardware: FittedHardware
    layer: int | None
    num_units: int
    max_speaker_share: float
    max_target_minutes: float
    cache_dir: Path
    prepare: PrepareConfig
    seed: int
    overwrite: bool
