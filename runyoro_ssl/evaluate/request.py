"""What is to be compared, on what, and how long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runyoro_ssl.config import FittedHardware
from runyoro_ssl.evaluate.heard.features import FeatureCache


@dataclass(frozen=True)
class EvaluationRequest:
    """What is compared, on what.

    Attributes:
        base, adapted: Folders of models, as transformers writes them.
        data: A prepared dataset whose held-out split is heard; None: that of the adapted model's run.
        other_data: One of another language, to see what is forgotten.
        alignments: A folder of phone alignments of its recordings; None: there are none.
        transcripts: Whether the text of its manifest is used.
        max_minutes: Of held-out speech.
        cache: Where features are kept.
        hardware: Where models compute, and in what.
        seed: Decides which clips of a recording come first.
        base_name: Of the base on the hub; None: that of its folder.
        tier: Of the alignments, that has the phones; None: the one that is called so.
        run: A run of which every checkpoint is measured, too; None: none.
        shares: Of the adapted model in mixtures with the base that are measured, too.
        last: So many of the run's last checkpoints are averaged, and that is measured, too; 0: none.
        with_context: Log-mel spectra and random weights are measured beside the two; they judge nothing.
    """

    base: Path
    adapted: Path
    data: Path | None
    other_data: Path | None
    alignments: Path | None
    transcripts: bool
    max_minutes: float
    cache: FeatureCache
    hardware: FittedHardware
    seed: int = 0
    base_name: str | None = None
    tier: str | None = None
    run: Path | None = None
    shares: tuple[float, ...] = ()
    last: int = 0
    with_context: bool = True
