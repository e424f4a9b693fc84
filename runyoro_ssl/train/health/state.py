"""What the watch over a run's health remembers, in two parts: what a checkpoint brings back, and what is forgotten."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

NUM_NORMS = 100
"""Gradient norms behind the median. Spikes are among them: a few do not move it, and a new level becomes the median."""
MIN_NORMS = 20
ELSEWHERE = {"rollbacks", "starts_at", "best_step", "best_loss", "best_at_chance"}
"""Names of a checkpoint's record that stand elsewhere: the watch keeps the first, and the others, which runyoro_ssl
0.1.0 wrote twice, are in the validations."""


@dataclass
class Learned:
    """What the updates have shown of the model so far: it is true of a checkpoint whenever the run goes on from it.

    A gap is a contrastive loss minus that of guessing, nats.
    """

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
    facts: list[str] = field(default_factory=list)
    """What was clearly seen once: better than guessing, a codebook in use."""
    validations_without_best: int = 0


@dataclass
class Recent:
    """What the last updates showed: it is forgotten when the run goes back, which leaves their course."""

    streaks: dict[str, int] = field(default_factory=dict)
    """By what is seen, for how many updates in a row."""
    grad_norms: list[float] = field(default_factory=list)
    spike_steps: list[int] = field(default_factory=list)
    noted_step: int | None = None
    """Of the last spike that was noted."""
    validation_collapsed: bool = False
    """Of the last validation."""

    def count(self, streak: str, *, seen: bool) -> int:
        """Updates in a row for which this was seen, this one included."""
        self.streaks[streak] = self.streaks.get(streak, 0) + 1 if seen else 0
        return self.streaks[streak]

    def typical_norm(self) -> float | None:
        """Median gradient norm; None while too few were seen, or where there is no gradient to speak of."""
        return (statistics.median(self.grad_norms) or None) if len(self.grad_norms) >= MIN_NORMS else None

    def add_norm(self, grad_norm: float) -> None:
        """Remember a gradient norm, and forget the oldest."""
        self.grad_norms = [*self.grad_norms, grad_norm][-NUM_NORMS:]


@dataclass
class HealthState:
    """All that the judgement of the next update depends on, but for the validations. JSON values only."""

    learned: Learned = field(default_factory=Learned)
    recent: Recent = field(default_factory=Recent)

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> Self:
        """The state that `as_json` gave. Raises ValueError where the names are not those of this version."""
        learned, recent = ({one.name for one in fields(part)} for part in (Learned, Recent))
        if differing := (learned | recent) ^ (saved.keys() - ELSEWHERE):
            raise ValueError(f"its record of health differs in {', '.join(sorted(differing))}")
        own = deepcopy(dict(saved))
        return cls(Learned(**{name: own[name] for name in learned}), Recent(**{name: own[name] for name in recent}))

    def as_json(self) -> dict[str, Any]:
        """A copy for a checkpoint, in which the two parts stand side by side."""
        return {**asdict(self.learned), **asdict(self.recent)}
