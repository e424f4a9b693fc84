"""The training run under way: what it works with, and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runyoro_ssl.batches.build import BatchBuilder
from runyoro_ssl.batches.plan import MicroBatch, RunPlan
from runyoro_ssl.batches.unreadable import Unreadable
from runyoro_ssl.config import FittedConfig
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.model.allocator import Allowance
from runyoro_ssl.model.masking import MaskSummary
from runyoro_ssl.train.averaging import MovingAverage
from runyoro_ssl.train.health.watch import HealthWatch
from runyoro_ssl.train.sharing.choice import Choice
from runyoro_ssl.train.sharing.ways import Sharing
from runyoro_ssl.train.step import Stepper


@dataclass
class TrainingRun:
    """A run: what the loop works with, and where it is. A checkpoint keeps of it what changes."""

    config: FittedConfig
    accelerator: Any
    model: Any
    sharing: Sharing
    choice: Choice
    extractor: Any
    optimizer: Any
    plan: RunPlan
    total_steps: int
    train_batches: BatchBuilder
    eval_batches: BatchBuilder
    eval_plan: list[MicroBatch]
    dataset_sha256: str
    mask_summary: MaskSummary
    stepper: Stepper
    meter: Meter
    watch: HealthWatch
    unreadable: Unreadable
    average: MovingAverage | None
    """Of what learns; None: it is not asked for."""
    memory: Allowance | None
    """What it may take of this machine's memory; None on other devices than the CPU."""
    reasons: Mapping[str, str]
    """Why a setting of the hardware that was `auto` came to its value."""
    machine: str
    """The kind that it runs on: GPU and number of processes."""
    base_model: str
    base_revision: str | None
    """What the run began with, whatever is given when it is resumed."""
    base_sha256: str | None = None
    """The fingerprint of what is frozen, where adapters learn: they go with it alone."""
    step: int = 0
    """Optimizer steps done so far."""
    epoch: float = 0.0
    """Passes over the training split done so far."""

    @property
    def longest_sec(self) -> float:
        """Seconds of the longest clip of the training split."""
        return float(max(self.plan.num_samples) / self.extractor.sampling_rate)

    @property
    def train_hours(self) -> float:
        """Hours of audio in the training split."""
        return float(sum(self.plan.num_samples) / self.extractor.sampling_rate / 3600)
