"""The training run under way: what it works with, and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runyoro_ssl.batches.build import BatchBuilder
from runyoro_ssl.batches.micro_batches import heard_samples
from runyoro_ssl.batches.mix import planned_samples
from runyoro_ssl.batches.plan import RunPlan, Update
from runyoro_ssl.batches.unreadable import Unreadable
from runyoro_ssl.config import FittedConfig
from runyoro_ssl.evaluate.heldout import Judged
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.model.allocator import Allowance
from runyoro_ssl.model.masking import MaskSummary
from runyoro_ssl.train.averaging import MovingAverage
from runyoro_ssl.train.health.watch import HealthWatch
from runyoro_ssl.train.sharing.choice import Choice
from runyoro_ssl.train.sharing.ways import Sharing
from runyoro_ssl.train.sources import Sources
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
    judged: tuple[Judged, ...]
    """What is held out of each source, the target's first."""
    sources: Sources
    contents: list[str]
    """What the dataset of each source holds, as a digest."""
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
    """Passes over the training split of the target done so far."""
    heard_samples: list[int] = field(default_factory=list)
    """Of each source, planned for the steps done so far; empty where there is one."""

    def count_heard(self, update: Update) -> None:
        """Count the audio of an optimizer step, by source."""
        mix = self.plan.mix
        if mix is None:
            return
        self.heard_samples = self.heard_samples or [0] * len(mix.sources)
        for (clip, _), samples in heard_samples(update.micro_batches, self.plan.num_samples).items():
            self.heard_samples[mix.source_of(clip)] += samples

    @property
    def longest_sec(self) -> float:
        """Seconds of the longest clip of the training split."""
        return float(max(self.plan.num_samples) / self.extractor.sampling_rate)

    def hours_heard(self) -> dict[str, float]:
        """Hours of each source so far, by `train/hours/<name>`; none where there is one source."""
        rate = 3600 * self.extractor.sampling_rate
        names = (source.name for source in self.sources.every)
        return {f"train/hours/{name}": samples / rate for name, samples in zip(names, self.heard_samples, strict=False)}

    @property
    def train_hours(self) -> float:
        """Hours of audio in the training split of the target."""
        return self.sources.target.seconds / 3600

    @property
    def update_seconds(self) -> float:
        """Seconds of audio of an optimizer step, on average."""
        updates = self.plan.epoch(0)
        pieces = [piece for update in updates for batch in update for piece in batch.pieces]
        return float(planned_samples(pieces, self.plan.num_samples) / len(updates) / self.extractor.sampling_rate)

    @property
    def judged_seconds(self) -> float:
        """Seconds of audio of a validation, of all sources."""
        return float(sum(one.num_samples for one in self.judged) / self.extractor.sampling_rate)
