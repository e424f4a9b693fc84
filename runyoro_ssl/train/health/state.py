"""What the watch over a run's health remembers: it goes into every checkpoint."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from runyoro_ssl.errors import CheckpointError

NUM_NORMS = 100
"""Gradient norms behind the median. Spikes are among them: a few do not move it, and a new level becomes the median."""
MIN_NORMS = 20


@dataclass
class HealthState:
    """JSON values only. `starts_at` and each gap: contrastive loss minus that of guessing, nats."""

    starts_at: float | None
    """Of the validated model, as it came."""
    first_gap: float | None = None
    """Of the first update."""
    mean_gap: float = 0.0
    """Running mean, while the model was never better than guessing."""
    updates_at_chance: int = 0
    usual_gap: float | None = None
    """Running mean, while the model is better than guessing."""
    best_gap: float = 0.0
    """The least that `usual_gap` ever was."""
    num_codebooks: int = 2
    streaks: dict[str, int] = field(default_factory=dict)
    """By what is seen, for how many updates in a row."""
    facts: list[str] = field(default_factory=list)
    """What was clearly seen once: better than guessing, a codebook in use."""
    grad_norms: list[float] = field(default_factory=list)
    spike_steps: list[int] = field(default_factory=list)
    noted_step: int | None = None
    """Of the last spike that was noted."""
    rollbacks: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    best_at_chance: bool = True
    """Whether the best validation so far is no better than guessing, or there is none."""
    validations_without_best: int = 0
    validation_collapsed: bool = False

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> Self:
        """From `as_json`. Raises CheckpointError where the names are not those of this version."""
        names = {one.name for one in fields(cls)}
        if saved.keys() != names:
            raise CheckpointError(
                f"the checkpoint's record of health differs in {sorted(saved.keys() ^ names)}: another version of "
                "runyoro_ssl wrote it; resume with that version"
            )
        return cls(**deepcopy(dict(saved)))

    def as_json(self) -> dict[str, Any]:
        """A copy, for a checkpoint."""
        return asdict(self)

    def count(self, streak: str, *, seen: bool) -> int:
        """Updates in a row for which this was seen, this one included."""
        self.streaks[streak] = self.streaks.get(streak, 0) + 1 if seen else 0
        return self.streaks[streak]

    def typical_norm(self) -> float | None:
        """Median gradient norm; None while too few were seen, or where there is no gradient to speak of."""
        return (statistics.median(self.grad_norms) or None) if len(self.grad_norms) >= MIN_NORMS else None

    def add_norm(self, grad_norm: float) -> None:
        """Remember a norm, and forget the oldest."""
        self.grad_norms = [*self.grad_norms, grad_norm][-NUM_NORMS:]
