"""The watch over a run's health: a state machine over the numbers of its updates. No torch, no clock, no chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.train.health import alarms
from runyoro_ssl.train.health.alarms import Alarm
from runyoro_ssl.train.health.state import HealthState, Learned, Recent

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.metrics import UpdateNumbers  # which imports torch

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
    """The judge of every update and validation: what is wrong, and what to do. It does none of that itself.

    `rollbacks`: times that the run went back. `validations`: numbers of held-out speech, each with its `step`, by
    `first` (of the model as it came), `last` and `best`; this is where a run keeps them. `warmup_steps`: validations up
    to this step do not count towards `early_stop_patience`.
    """

    def __init__(self, config: HealthConfig, *, warmup_steps: int = 0) -> None:
        self._config, self._warmup_steps = config, warmup_steps
        self._state = HealthState()
        self.rollbacks = 0
        self.validations: dict[str, dict[str, float]] = {}

    @property
    def learning_rate_scale(self) -> float:
        """Share of the scheduled learning rate to use: half of it for each time that the run went back."""
        return 0.5**self.rollbacks

    @property
    def has_ended(self) -> bool:
        """Whether the run was ended early, and has nothing to do when it is resumed."""
        return self._config.enabled and self._is_over()

    @property
    def best_step(self) -> int | None:
        """Step of the best validation so far; None: none counted."""
        return int(self.validations["best"]["step"]) if "best" in self.validations else None

    def judge_update(self, numbers: UpdateNumbers) -> Alarm | None:
        """Judge an update before the optimizer takes it. Of several alarms, the one nearest to the cause."""
        alarm = self._check_finite(numbers)
        if not self._config.enabled or self._recent.streaks["non_finite_update"]:
            return alarm
        found = (
            self._check_codebooks(numbers),
            self._check_task(numbers),
            self._check_chance(numbers),
            self._check_spikes(numbers),
        )
        return next((alarm for alarm in found if alarm), None)

    def judge_validation(self, step: int, metrics: Mapping[str, float]) -> Alarm | None:
        """Keep a validation, and judge it. That of step 0, the model as it came, is never the best of this run.

        Nor is one whose codebooks have collapsed: its loss says nothing. One no better than guessing is best only as
        long as there is no other, and never ends the run: there, few codes in use make the loss low.
        """
        config, found = self._config, {"step": step, **metrics}
        self.validations["last"] = found
        self.validations.setdefault("first", found)
        if step == 0:
            return None
        floor = config.min_group_perplexity * self._learned.num_codebooks
        self._recent.validation_collapsed = (
            metrics["eval/codevector_perplexity"] < floor or metrics["eval/chance_loss"] < config.min_contrastive_loss
        )
        if not self._recent.validation_collapsed and self._is_better(metrics):
            self.validations["best"], self._learned.validations_without_best = found, 0
            return None
        self._learned.validations_without_best += step > self._warmup_steps
        if not config.enabled:
            return None
        if self._is_over():
            without_best = self._learned.validations_without_best
            return alarms.validation_worsens(step, metrics, self.validations["best"], without_best=without_best)
        collapsed = self._recent.validation_collapsed
        return alarms.validation_collapsed(step, metrics, config, floor=floor) if collapsed else None

    def concerns(self) -> list[str]:
        """Why a checkpoint written now would not be healthy; empty: it would be."""
        recent = self._recent
        if not self._config.enabled:
            return []
        kinds = {name.partition(":")[0]: count for name, count in recent.streaks.items() if count}
        found = [f"{words} ({kinds[kind]} in a row)" for kind, words in CONCERNS.items() if kind in kinds]
        if recent.spike_steps:
            found.append(f"the gradient norm spiked {len(recent.spike_steps)} times in the last updates")
        if recent.validation_collapsed:
            found.append("the codebooks had collapsed at the last validation")
        return found

    def start_over(self) -> None:
        """Forget all but how good the model is as it came, and how often the run went back."""
        first = self.validations.get("first")
        self._state = HealthState()
        self.validations = {} if first is None else {"first": first, "last": first}

    def restore(
        self, saved: Mapping[str, Any], validations: Mapping[str, dict[str, float]], *, went_back: bool
    ) -> None:
        """Take over what a checkpoint knew, from its `state_dict` and validations.

        `went_back`: the run left the course on which it was written, and what was recent there is forgotten.
        Raises ValueError where the record is none of this version.
        """
        self._state = HealthState.read(saved)
        self.validations = deepcopy(dict(validations))
        if went_back:
            self._state.recent = Recent()

    def state_dict(self) -> dict[str, Any]:
        """All that a checkpoint keeps of this watch, besides the validations: JSON values."""
        return {"rollbacks": self.rollbacks, **self._state.as_json()}

    @property
    def _learned(self) -> Learned:
        return self._state.learned

    @property
    def _recent(self) -> Recent:
        return self._state.recent

    def _check_finite(self, numbers: UpdateNumbers) -> Alarm | None:
        values = (numbers.contrastive_loss, numbers.accuracy, numbers.chance_loss, numbers.grad_norm)
        finite = all(map(math.isfinite, (*values, *numbers.perplexities)))
        in_a_row = self._recent.count("non_finite_update", seen=not finite)
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
        self._learned.num_codebooks = of
        found: list[Alarm] = []
        for codebook, value in enumerate(numbers.perplexities, 1):
            used = self._learn(f"codebook_in_use:{codebook}", seen=value >= CLEARLY * config.min_group_perplexity)
            low = value < config.min_group_perplexity
            collapsed = self._recent.count(f"codebook_collapse:{codebook}", seen=low and used)
            unused = self._recent.count(f"codebook_never_used:{codebook}", seen=low and not used)
            if collapsed >= config.patience:
                alarm = alarms.codebook_collapse(numbers, config, codebook=codebook, in_a_row=collapsed)
                found.append(self._go_back(alarm))
            elif unused >= config.chance_patience:
                found.append(alarms.codebook_never_used(numbers, config, codebook=codebook, in_a_row=unused))
        return found[0] if found else None

    def _check_task(self, numbers: UpdateNumbers) -> Alarm | None:
        config = self._config
        solved = numbers.contrastive_loss < config.min_contrastive_loss and numbers.accuracy > config.max_accuracy
        trivial = self._recent.count("trivial_task", seen=solved or numbers.chance_loss < config.min_contrastive_loss)
        if trivial < config.patience:
            return None
        return self._go_back(alarms.trivial_task(numbers, config, in_a_row=trivial))

    def _check_chance(self, numbers: UpdateNumbers) -> Alarm | None:
        config = self._config
        gap = numbers.contrastive_loss - numbers.chance_loss
        if not self._learn("below_chance", seen=gap < -CLEARLY * config.chance_margin):
            return self._check_start(numbers, gap)
        fallen = self._recent.count("fell_to_chance", seen=gap >= -config.chance_margin)
        lost = self._count_lost(gap)
        if fallen >= config.patience:
            return self._go_back(alarms.fell_to_chance(numbers, config, in_a_row=fallen))
        if lost >= config.patience:
            best = -self._learned.best_gap
            return self._go_back(alarms.lost_progress(numbers, config, best=best, in_a_row=lost))
        return None

    def _count_lost(self, gap: float) -> int:
        """Updates in a row that are not half as much better than guessing as the run once was."""
        config, learned = self._config, self._learned
        clear = learned.best_gap < -TRAINED * config.chance_margin
        lost = self._recent.count("lost_progress", seen=clear and gap > (1 - config.max_lost_share) * learned.best_gap)
        usual = gap if learned.usual_gap is None else learned.usual_gap + (gap - learned.usual_gap) / SLOWLY
        learned.usual_gap, learned.best_gap = usual, min(learned.best_gap, usual)
        return lost

    def _check_start(self, numbers: UpdateNumbers, gap: float) -> Alarm | None:
        """A model that was never better than guessing: it may explode, or never learn. Random weights start above."""
        config, learned = self._config, self._learned
        if learned.first_gap is None:
            learned.first_gap = learned.mean_gap = gap
        above = max(0.0, learned.first_gap, self._starts_at or 0.0) + EXPLOSION_NATS
        exploded = self._recent.count("loss_exploded", seen=gap > above)
        if exploded >= config.patience:
            return self._go_back(alarms.loss_exploded(numbers, above=above, in_a_row=exploded))
        learned.updates_at_chance += 1
        learned.mean_gap += (gap - learned.mean_gap) / config.patience
        if learned.updates_at_chance < config.chance_patience or learned.mean_gap < -config.chance_margin:
            return None
        return alarms.never_left_chance(
            numbers, config, mean_gap=learned.mean_gap, num_updates=learned.updates_at_chance
        )

    def _check_spikes(self, numbers: UpdateNumbers) -> Alarm | None:
        config, recent = self._config, self._recent
        typical = recent.typical_norm()
        recent.add_norm(numbers.grad_norm)
        recent.spike_steps = [step for step in recent.spike_steps if step > numbers.step - config.spike_window]
        if typical is None or numbers.grad_norm <= config.spike_factor * typical:
            return None
        recent.spike_steps.append(numbers.step)
        alarm = alarms.gradient_spikes(
            config, grad_norm=numbers.grad_norm, typical=typical, num_spikes=len(recent.spike_steps)
        )
        if alarm.action == "go_back":
            return self._go_back(alarm)
        if recent.noted_step is not None and numbers.step - recent.noted_step < config.spike_window:
            return None
        recent.noted_step = numbers.step
        return alarm

    @property
    def _starts_at(self) -> float | None:
        """How far from guessing the model was as it came, nats; None: not known."""
        if "first" not in self.validations:
            return None
        gap = _gap(self.validations["first"])
        return gap if math.isfinite(gap) else None

    def _is_better(self, metrics: Mapping[str, float]) -> bool:
        """Whether a validation is better than the best so far."""
        if not math.isfinite(metrics["eval/loss"]):
            return False
        best = self.validations.get("best")
        best_loss = math.inf if best is None else best["eval/loss"]
        return (self._is_at_chance(metrics), metrics["eval/loss"]) < (self._is_at_chance(best), best_loss)

    def _is_at_chance(self, metrics: Mapping[str, float] | None) -> bool:
        """Whether a validation is no better than guessing, or there is none."""
        return metrics is None or _gap(metrics) >= -self._config.chance_margin

    def _is_over(self) -> bool:
        """Whether there was no new best for so long that the run ends."""
        patience, without_best = self._config.early_stop_patience, self._learned.validations_without_best
        return 0 < patience <= without_best and not self._is_at_chance(self.validations.get("best"))

    def _learn(self, fact: str, *, seen: bool) -> bool:
        """Whether something was ever seen for `patience` updates in a row, or the model came trained."""
        starts_at, facts = self._starts_at, self._learned.facts
        if starts_at is not None and starts_at < -TRAINED * self._config.chance_margin:
            return True
        if fact not in facts and self._recent.count(fact, seen=seen) >= self._config.patience:
            facts.append(fact)
        return fact in facts

    def _go_back(self, alarm: Alarm) -> Alarm:
        """The alarm as it is while the run may still go back, else as one that ends it."""
        if self.rollbacks < self._config.max_rollbacks:
            return alarm
        return alarms.last_resort(alarm, rollbacks=self.rollbacks, learning_rate_scale=self.learning_rate_scale)


def _gap(metrics: Mapping[str, float]) -> float:
    """Contrastive loss of a validation minus that of guessing, nats."""
    return metrics["eval/contrastive_loss"] - metrics["eval/chance_loss"]
