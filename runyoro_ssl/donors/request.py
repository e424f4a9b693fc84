"""What is asked for: a target, pools, and how much of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runyoro_ssl.config import FittedHardware, PrepareConfig

LOG_MEL: Literal["log-mel"] = "log-mel"
"""In place of a layer: spectra, which need no model."""


@dataclass(frozen=True)
class DonorsRequest:
    """What is asked for.

    Attributes:
        target: A prepared dataset; what it holds out chooses nothing.
        pools: Prepared datasets to choose from.
        hours: That are wanted.
        output_dir: Of the new dataset.
        base: Folder of the base model, or, for spectra, its name: what it takes is known, and no more is asked of it.
        base_name: As it was given.
        revision: Of a name.
        hardware: Where it computes, and in what.
        layer: That is heard; None: the middle one; or `LOG_MEL`.
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
    base: Path | str
    base_name: str
    revision: str | None
    hardware: FittedHardware
    layer: int | Literal["log-mel"] | None
    num_units: int
    max_speaker_share: float
    max_target_minutes: float
    cache_dir: Path
    prepare: PrepareConfig
    seed: int
    overwrite: bool
