"""Is this run healthy? A state machine over the numbers of every update. No torch, no clock, no chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runyoro_ssl.train.health import alarms
from runyoro_ssl.train.health.alarms import Alarm
from runyoro_ssl.train.health.state import HealthState

if TYPE_CHECKING:
    from runyoro_ssl.config import HealthConfig
    from runyoro_ssl.evaluate.metrics import UpdateNumbers

CLEARLY = 2
"""Times a threshold from which a model is believed to be better than guessing, and a codebook to be in use."""
TRAINED = 5
"""Times `chance_margin` below guessing from which a model came trained: XLS-R starts 1.5 nats below, random weights
hardly ever 0.1."""
EXPLOSION_NATS = 1.0
SLOWLY = 20
"""Updates over which the loss of a model that learns is averaged."""
CONCERNS = {
    "non_finite_update": "the last updates were no numbers and were skipped",
    "codebook_collapse": "a codebook has next to no code in use",
    "trivial_task": "the task has become trivial",
    "fell_to_chance": "the loss is back at guessing",
    "lost_progress": "much of what was learned is lost",
    "loss_exploded": "the loss is far above guessing",
}
"""Why a checkpoint written now would not be healthy, by the streak that is open."""


class HealthWatch:
    """Sees every update and validation, and says what is wrong and what to do. It changes nothing itself.

    Args:
        config: The thresholds.
        starts_at: Validated contrastive loss minus `chance_loss` of the model as it came, nats; None: not known.
        warmup_steps: Validations up to this step do not count towards `early_stop_patience`.
    """

    def __init__(self, config: HealthConfig, *, starts_at: float | None, warmup_steps: int = 0) -> None:
        self._config = config
        self._warmup_steps = warmup_steps
        self._state = HealthState(starts_at if starts_at is not None and math.isfinite(starts_at) else None)

    @property
    def rollbacks(self) -> int:
        """Times that the run went back."""
        return self._state.rollbacks

    @property
    def learning_rate_scale(self) -> float:
        """Share of the scheduled learning rate to use: half of it for each time that the run went back."""
        return 0.5**self._state.rollbacks

    @property
    def has_ended(self) -> bool:
        """Whether the run was ended early, and has nothing to do when it is resumed."""
        return self._config.enabled and self._is_over()

    @property
    def best_step(self) -> int | None:
        """Step of the best validation so far; None: none counted."""
        return self._state.best_step

    @property
    def best_loss(self) -> float | None:
        """`eval/loss` at `best_step`, nats."""
        return self._state.best_loss

    def see(self, numbers: UpdateNumbers) -> Alarm | None:
        """Look at an update before the optimizer steps. Of several alarms, the one nearest to the cause."""
        alarm = self._check_finite(numbers)
        if not self._config.enabled or self._state.streaks["non_finite_update"]:
            return alarm
        found = (
            self._check_codebooks(numbers),
            self._check_task(numbers),
            self._check_chance(numbers),
            self._check_spikes(numbers),
        )
        return next((alarm for alarm in found if alarm), None)

    def see_validation(self, step: int, metrics: Mapping[str, float]) -> Alarm | None:
        """Look at a validation. That of step 0, the model as it came, is never the best of this run.

        Nor is one whose codebooks have collapsed: its loss says nothing. One no better than guessing is best only as
        long as there is no other, and never ends the run: there, few codes in use make the loss low.
        """
        config, state = self._config, self._state
        if step == 0:
            return None
        floor = config.min_group_perplexity * state.num_codebooks
        state.validation_collapsed = (
            metrics["eval/codevector_perplexity"] < floor or metrics["eval/chance_loss"] < config.min_contrastive_loss
        )
        if self._take_best(step, metrics):
            return None
        state.validations_without_best += step > self._warmup_steps
        if not config.enabled:
            return None
        if self._is_over():
            return alarms.validation_worsens(step, metrics, state)
        return alarms.validation_collapsed(step, metrics, config, floor=floor) if state.validation_collapsed else None

    def _is_over(self) -> bool:
        state, patience = self._state, self._config.early_stop_patience
        return 0 < patience <= state.validations_without_best and not state.best_at_chance

    def concerns(self) -> list[str]:
        """Why a checkpoint written now would not be healthy; empty: it would be."""
        state = self._state
        if not self._config.enabled:
            return []
        kinds = {name.partition(":")[0]: count for name, count in state.streaks.items() if count}
        found = [f"{words} ({kinds[kind]} in a row)" for kind, words in CONCERNS.items() if kind in kinds]
        if state.spike_steps:
            found.append(f"the gradient norm spiked {len(state.spike_steps)} times in the last updates")
        if state.validation_collapsed:
            found.append("the codebooks had collapsed at the last validation")
        return found

    def came_with(self, metrics: Mapping[str, float]) -> None:
        """Learn how good the model is as it came, from its validation."""
        gap = metrics["eval/contrastive_loss"] - metrics["eval/chance_loss"]
        self._state.starts_at = gap if math.isfinite(gap) else None

    def count_rollbacks(self, rollbacks: int) -> None:
        """Know of goings back that a checkpoint, being older, does not know: it was what the run went back to."""
        if rollbacks > self._state.rollbacks:
            self.went_back(self.state_dict())
        self._state.rollbacks = rollbacks

    def went_back(self, saved: Mapping[str, Any] | None = None) -> None:
        """Start anew from a checkpoint, and count it. The best validation is what it was there.

        Args:
            saved: `state_dict` as it was saved with that checkpoint; None: forget what was known of the model, as if it
                had just come.
        """
        now = self._state
        then = HealthState(now.starts_at) if saved is None else HealthState.read(saved)
        self._state = HealthState(
            now.starts_at,
            rollbacks=now.rollbacks + 1,
            num_codebooks=now.num_codebooks,
            first_gap=then.first_gap,
            mean_gap=then.mean_gap,
            updates_at_chance=then.updates_at_chance,
            usual_gap=then.usual_gap,
            best_gap=then.best_gap,
            facts=list(then.facts),
            best_step=then.best_step,
            best_loss=then.best_loss,
            best_at_chance=then.best_at_chance,
            validations_without_best=then.validations_without_best,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on alike: JSON values."""
        return self._state.as_json()

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`. Raises CheckpointError where it is none of this version."""
        self._state = HealthState.read(saved)

    def _check_finite(self, numbers: UpdateNumbers) -> Alarm | None:
        values = (numbers.contrastive_loss, numbers.accuracy, numbers.chance_loss, numbers.grad_norm)
        finite = all(map(math.isfinite, (*values, *numbers.perplexities)))
        in_a_row = self._state.count("non_finite_update", seen=not finite)
        if finite:
            return None
        config = self._config
        if not config.enabled:
            return alarms.non_finite_update(numbers, config, in_a_row=in_a_row, action="stop")
        if in_a_row <= config.max_skipped_updates:
            return alarms.non_finite_update(numbers, config, in_a_row=in_a_row, action="skip")
        return self._go_back(alarms.non_finite_update(numbers, config, in_a_row=in_a_row, action="go_back"))

    def _check_codebooks(self, numbers: UpdateNumbers) -> Alarm | None:
        """A codebook that was in use and is no more; one that came unused has time, as random weights have."""
        config, of = self._config, len(numbers.perplexities)
        self._state.num_codebooks = of
        found: list[Alarm] = []
        for codebook, value in enumerate(numbers.perplexities, 1):
            used = self._learn(f"codebook_in_use:{codebook}", seen=value >= CLEARLY * config.min_group_perplexity)
            low = value < config.min_group_perplexity
            collapsed = self._state.count(f"codebook_collapse:{codebook}", seen=low and used)
            unused = self._state.count(f"codebook_never_used:{codebook}", seen=low and not used)
            if collapsed >= config.patience:
                alarm = alarms.codebook_collapse(numbers, config, codebook=codebook, in_a_row=collapsed)
                found.append(self._go_back(alarm))
            elif unused >= config.chance_patience:
                found.append(alarms.codebook_never_used(numbers, config, codebook=codebook, in_a_row=unused))
        return found[0] if found else None

    def _check_task(self, numbers: UpdateNumbers) -> Alarm | None:
        config = self._config
        solved = numbers.contrastive_loss < config.min_contrastive_loss and numbers.accuracy > config.max_accuracy
        trivial = self._state.count("trivial_task", seen=solved or numbers.chance_loss < config.min_contrastive_loss)
        if trivial < config.patience:
            return None
        return self._go_back(alarms.trivial_task(numbers, config, in_a_row=trivial))

    def _check_chance(self, numbers: UpdateNumbers) -> Alarm | None:
        config = self._config
        gap = numbers.contrastive_loss - numbers.chance_loss
        if not self._learn("below_chance", seen=gap < -CLEARLY * config.chance_margin):
            return self._check_start(numbers, gap)
        fallen = self._state.count("fell_to_chance", seen=gap >= -config.chance_margin)
        lost = self._count_lost(gap)
        if fallen >= config.patience:
            return self._go_back(alarms.fell_to_chance(numbers, config, in_a_row=fallen))
        if lost >= config.patience:
            best = -self._state.best_gap
            return self._go_back(alarms.lost_progress(numbers, config, best=best, in_a_row=lost))
        return None

    def _count_lost(self, gap: float) -> int:
        """Updates in a row that are not half as much better than guessing as the run once was."""
        config, state = self._config, self._state
        clear = state.best_gap < -TRAINED * config.chance_margin
        lost = state.count("lost_progress", seen=clear and gap > (1 - config.max_lost_share) * state.best_gap)
        usual = gap if state.usual_gap is None else state.usual_gap + (gap - state.usual_gap) / SLOWLY
        state.usual_gap, state.best_gap = usual, min(state.best_gap, usual)
        return lost

    def _check_start(self, numbers: UpdateNumbers, gap: float) -> Alarm | None:
        """A model that was never better than guessing: it may explode, or never learn. Random weights start above."""
        config, state = self._config, self._state
        if state.first_gap is None:
            state.first_gap = state.mean_gap = gap
        above = max(0.0, state.first_gap, state.starts_at or 0.0) + EXPLOSION_NATS
        exploded = self._state.count("loss_exploded", seen=gap > above)
        if exploded >= config.patience:
            return self._go_back(alarms.loss_exploded(numbers, above=above, in_a_row=exploded))
        state.updates_at_chance += 1
        state.mean_gap += (gap - state.mean_gap) / config.patience
        if state.updates_at_chance < config.chance_patience or state.mean_gap < -config.chance_margin:
            return None
        return alarms.never_left_chance(numbers, config, mean_gap=state.mean_gap, num_updates=state.updates_at_chance)

    def _check_spikes(self, numbers: UpdateNumbers) -> Alarm | None:
        config, state = self._config, self._state
        typical = state.typical_norm()
        state.add_norm(numbers.grad_norm)
        state.spike_steps = [step for step in state.spike_steps if step > numbers.step - config.spike_window]
        if typical is None or numbers.grad_norm <= config.spike_factor * typical:
            return None
        state.spike_steps.append(numbers.step)
        alarm = alarms.gradient_spikes(
            config, grad_norm=numbers.grad_norm, typical=typical, num_spikes=len(state.spike_steps)
        )
        if alarm.action == "go_back":
            return self._go_back(alarm)
        if state.noted_step is not None and numbers.step - state.noted_step < config.spike_window:
            return None
        state.noted_step = numbers.step
        return alarm

    def _take_best(self, step: int, metrics: Mapping[str, float]) -> bool:
        state, loss = self._state, metrics["eval/loss"]
        at_chance = metrics["eval/contrastive_loss"] - metrics["eval/chance_loss"] >= -self._config.chance_margin
        best_loss = math.inf if state.best_loss is None else state.best_loss
        better = math.isfinite(loss) and (at_chance, loss) < (state.best_at_chance, best_loss)
        if state.validation_collapsed or not better:
            return False
        state.best_step, state.best_loss, state.best_at_chance = step, loss, at_chance
        state.validations_without_best = 0
        return True

    def _learn(self, fact: str, *, seen: bool) -> bool:
        """Whether something was ever seen for `patience` updates in a row, or the model came trained."""
        state = self._state
        if state.starts_at is not None and state.starts_at < -TRAINED * self._config.chance_margin:
            return True
        if fact not in state.facts and self._state.count(fact, seen=seen) >= self._config.patience:
            state.facts.append(fact)
        return fact in state.facts

    def _go_back(self, alarm: Alarm) -> Alarm:
        """The alarm as it is while the run may still go back, else as one that ends it."""
        if self._state.rollbacks < self._config.max_rollbacks:
            return alarm
        return alarms.last_resort(alarm, rollbacks=self._state.rollbacks, learning_rate_scale=self.learning_rate_scale)
