"""What the watch over a run's health remembers, in two parts: what a checkpoint brings back, and what is forgotten."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

NUM_NORMS = 100
"""Gradient norms behind the median. Spikes are among them: a few do not move it, and a new level becomes the median."""
MIN_NORMS = 20
NUM_GAPS = 100
"""Losses behind what a run has held, and behind what is usual for it."""
NUM_LEVELS = 100
"""Levels of the codes in use, one in `patience` updates, in which the start of a fall is looked for."""
NOT_READ = {"rollbacks", "behind", "starts_at", "best_step", "best_loss", "best_at_chance", "usual_gap", "best_gap"}
"""Names of a checkpoint's record that are not read from it: the watch keeps the first, the second is for those who
look for a checkpoint, and the others, which runyoro_ssl 0.1.0 wrote, are in the validations or used no more."""
ADDED = {"held_gap", "codes_held", "codes_validated", "gaps", "codes", "levels", "skipped_steps"}
"""Names that runyoro_ssl 0.1.0 did not write: what they stand for is then learned anew."""


def sustained(values: Sequence[float]) -> float:
    """What four fifths of some values reach: what was held, not what was touched. Raises IndexError without any."""
    return sorted(values)[len(values) // 5]


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
    held_gap: float = 0.0
    """The least that four fifths of the last updates were under."""
    codes_held: dict[str, float] = field(default_factory=dict)
    """By codebook, and of all together: the most codes in use that four fifths of the last updates reached."""
    codes_validated: float = 0.0
    """The most codes in use in a validation, all codebooks together."""
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
    gaps: list[float] = field(default_factory=list)
    """Of the last updates; a gap is as in `Learned`."""
    codes: dict[str, list[float]] = field(default_factory=dict)
    """By codebook, and of all together: codes in use in the last updates."""
    levels: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Steps, `patience` updates apart, and the codes in use as they were around them."""
    skipped_steps: list[int] = field(default_factory=list)
    """Of the last updates: those that were no numbers."""
    spike_steps: list[int] = field(default_factory=list)
    noted_step: int | None = None
    """Of the last spike that was noted."""
    validation_collapsed: bool = False
    """Of the last validation."""

    def count(self, streak: str, *, seen: bool) -> int:
        """Updates in a row for which this was seen, this one included."""
        self.streaks[streak] = self.streaks.get(streak, 0) + 1 if seen else 0
        return self.streaks[streak]

    def add_gap(self, gap: float) -> None:
        """Remember a gap, and forget the oldest."""
        self.gaps = [*self.gaps, gap][-NUM_GAPS:]

    def gaps_before(self, in_a_row: int) -> list[float]:
        """The gaps before so many updates, the last of which is not among them yet."""
        return self.gaps[: max(0, len(self.gaps) - in_a_row + 1)]

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
        learned, recent = (frozenset(one.name for one in fields(part)) for part in (Learned, Recent))
        if differing := ((learned | recent) ^ (saved.keys() - NOT_READ)) - (ADDED - saved.keys()):
            raise ValueError(f"its record of health differs in {', '.join(sorted(differing))}")
        own = {name: value for name, value in deepcopy(dict(saved)).items() if name not in NOT_READ}
        own["levels"] = [(step, levels) for step, levels in own.get("levels", [])]
        return cls(
            Learned(**{name: own[name] for name in learned & own.keys()}),
            Recent(**{name: own[name] for name in recent & own.keys()}),
        )

    def learn(self, fact: str, *, seen: bool, patience: int) -> bool:
        """Whether something was ever seen for `patience` updates in a row, this one included."""
        if fact not in self.learned.facts and self.recent.count(fact, seen=seen) >= patience:
            self.believe(fact)
        return fact in self.learned.facts

    def believe(self, fact: str) -> None:
        """Remember a fact."""
        if fact not in self.learned.facts:
            self.learned.facts.append(fact)

    def as_json(self) -> dict[str, Any]:
        """A copy for a checkpoint, in which the two parts stand side by side."""
        return {**asdict(self.learned), **asdict(self.recent)}
