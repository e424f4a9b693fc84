"""Whether what a run has learned is lost again: judged where there is something to lose, by how its updates differ."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.train.health import alarms
from runyoro_ssl.train.health.alarms import Alarm
from runyoro_ssl.train.health.state import HealthState, sustained

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.metrics import UpdateNumbers  # which imports torch

CLEARLY = 2
"""Times `chance_margin` below guessing from which a model is believed to be better than guessing."""
TRAINED = 5
"""Times `chance_margin` below guessing from which a model came trained, and from which there is progress to lose:
XLS-R starts 1.5 nats below, random weights hardly ever 0.1."""
BETTER, VALIDATED = "below_chance", "below_chance_in_validation"
"""The facts that a model was clearly better than guessing, in its updates or in a validation. Small models are so in
validation first, which takes the best codes: one at 0.13 nats below was at 0.01 in its updates, one at 0.5 at 0.06."""
SURE_NATS = 1.0
"""A model that came so far below guessing is there in its updates, too."""
FALLEN, LOST = "fell_to_chance", "lost_progress"
EXPLOSION_NATS = 1.0
LEAST_HELD = 50
"""Updates that show what a run from random weights holds; `patience` of them do, where a model came trained."""
STILL_HELD = 0.8
"""Share of what was held that the updates before a sudden loss still had: early learning wavers, and passes through."""
DEEP_NATS = 0.3
"""A loss of so much is one, however slowly it comes."""
BY_CHANCE = 1e-6
"""How improbable a row of updates must be, by how many of those before were like it."""
USUAL = 0.05
"""A row less probable than this is a concern, though no alarm yet."""


class Progress:
    """The judge of the contrastive loss beside that of guessing. `starts_at`: their difference as the model came."""

    def __init__(
        self, config: HealthConfig, state: HealthState, *, starts_at: float | None, warmup_steps: int = 0
    ) -> None:
        self._config, self._state, self._starts_at, self._warmup_steps = config, state, starts_at, warmup_steps
        self._learned, self._recent = state.learned, state.recent

    @property
    def came_trained(self) -> bool:
        """Whether the model was clearly better than guessing as it came."""
        return self._starts_at is not None and self.is_clear(self._starts_at)

    def is_clear(self, gap: float) -> bool:
        """Whether so many nats (below 0: better than guessing) are progress that can be lost."""
        return gap < -TRAINED * self._config.chance_margin

    def judge(self, numbers: UpdateNumbers) -> Alarm | None:
        """Judge an update, and remember it."""
        gap = numbers.contrastive_loss - numbers.chance_loss
        better = self._is_better_than_guessing(gap)
        found = (self._fallen(numbers, gap) if better else self._start(numbers, gap)) or self._lost(numbers, gap)
        self._remember(gap)
        return found

    def _is_better_than_guessing(self, gap: float) -> bool:
        """Whether the model ever was. What its updates showed before they were says nothing of what it holds."""
        known = BETTER in self._learned.facts
        seen = gap < -CLEARLY * self._config.chance_margin
        believed = self._state.learn(BETTER, seen=seen, patience=self._config.patience)
        if believed and not known and not self.came_trained:
            self._recent.gaps = self._recent.gaps[1 - self._config.patience :]
        sure = self._starts_at is not None and self._starts_at < -SURE_NATS
        return sure or believed

    def is_usual(self, streak: str) -> bool:
        """Whether a row of updates, as it is now, is nothing unusual here: small updates of other clips differ much."""
        if streak not in (FALLEN, LOST):
            return False
        in_a_row = self._recent.streaks[streak]
        return self._usual_share(streak, self._recent.gaps[: len(self._recent.gaps) - in_a_row]) ** in_a_row > USUAL

    def _fallen(self, numbers: UpdateNumbers, gap: float) -> Alarm | None:
        in_a_row = self._recent.count(FALLEN, seen=self._is_seen(FALLEN, gap))
        if in_a_row < self._enough(FALLEN):
            return None
        return alarms.fell_to_chance(numbers, self._config, in_a_row=in_a_row)

    def _lost(self, numbers: UpdateNumbers, gap: float) -> Alarm | None:
        held = self._learned.held_gap
        # Where the rate rises, a loss that comes again by itself is usual: 0.8 nats of 2.5 on XLS-R.
        share = self._config.max_lost_share
        share = (1 + share) / 2 if numbers.step <= self._warmup_steps else share
        seen = self._is_seen(LOST, gap) and gap > (1 - share) * held
        in_a_row = self._recent.count(LOST, seen=seen)
        if in_a_row < self._enough(LOST):
            return None
        before, since = self._recent.gaps_before(in_a_row), [*self._recent.gaps, gap][-in_a_row:]
        sudden = bool(before) and statistics.median(before[-self._config.patience :]) <= STILL_HELD * held
        if not sudden and statistics.median(since) - held < DEEP_NATS:
            return None
        return alarms.lost_progress(numbers, self._config, held=held, share=share, in_a_row=in_a_row)

    def _is_seen(self, streak: str, gap: float) -> bool:
        """Whether an update shows a fall to guessing, or progress that is lost."""
        if streak == FALLEN:
            return gap >= -self._config.chance_margin
        held = self._learned.held_gap
        return self.is_clear(held) and gap > (1 - self._config.max_lost_share) * held

    def _usual_share(self, streak: str, before: Sequence[float]) -> float:
        """Share of updates that showed it before; with few of them, hardly any."""
        return sum(self._is_seen(streak, gap) for gap in before) / (len(before) + self._config.patience)

    def _enough(self, streak: str) -> int:
        """Updates in a row that are no chance: `patience`, or more where many of those before were like them."""
        usual = self._usual_share(streak, self._recent.gaps_before(self._recent.streaks[streak]))
        patience = self._config.patience
        return max(patience, math.ceil(math.log(BY_CHANCE) / math.log(usual))) if usual else patience

    def _start(self, numbers: UpdateNumbers, gap: float) -> Alarm | None:
        """A model that was never better than guessing: it may explode, or never learn. Random weights start above."""
        config, learned = self._config, self._learned
        if learned.first_gap is None:
            learned.first_gap = learned.mean_gap = gap
        above = max(0.0, learned.first_gap, self._starts_at or 0.0) + EXPLOSION_NATS
        exploded = self._recent.count("loss_exploded", seen=gap > above)
        if exploded >= config.patience:
            return alarms.loss_exploded(numbers, above=above, in_a_row=exploded)
        learned.updates_at_chance += 1
        learned.mean_gap += (gap - learned.mean_gap) / config.patience
        better = VALIDATED in learned.facts or learned.mean_gap < -config.chance_margin
        if better or learned.updates_at_chance < config.chance_patience:
            return None
        return alarms.never_left_chance(
            numbers, config, mean_gap=learned.mean_gap, num_updates=learned.updates_at_chance
        )

    def _remember(self, gap: float) -> None:
        recent, patience = self._recent, self._config.patience
        recent.add_gap(gap)
        if len(recent.gaps) >= (patience if self.came_trained else max(patience, LEAST_HELD)):
            self._learned.held_gap = min(self._learned.held_gap, -sustained(_negated(recent.gaps)))


def _negated(values: Sequence[float]) -> list[float]:
    return [-value for value in values]
