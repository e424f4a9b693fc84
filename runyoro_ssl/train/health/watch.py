"""The watch over a run's health: a state machine over the numbers of its updates. No torch, no clock, no chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from runyoro_ssl.config import HealthConfig
from runyoro_ssl.train.health import alarms
from runyoro_ssl.train.health.alarms import Action, Alarm
from runyoro_ssl.train.health.codebooks import Codebooks
from runyoro_ssl.train.health.progress import VALIDATED, Progress
from runyoro_ssl.train.health.state import HealthState, Learned, Recent

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.metrics import UpdateNumbers  # which imports torch

CONCERNS = {
    "non_finite_update": "the last steps gave no numbers and were skipped",
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
            self._codebooks.judge(numbers),
            self._check_task(numbers),
            self._progress.judge(numbers),
            self._check_spikes(numbers),
        )
        return next((self._last_resort(alarm) for alarm in found if alarm), None)

    def judge_validation(self, step: int, metrics: Mapping[str, float]) -> Alarm | None:
        """Keep a validation, and judge it. That of step 0, the model as it came, is never the best of this run.

        Nor is one whose codebooks have collapsed, or are on the way: its loss says nothing. One no better than guessing
        is best only as long as there is no other, and never ends the run: there, few codes in use make the loss low.
        """
        config, found, codes = self._config, {"step": step, **metrics}, metrics["eval/hard_perplexity"]
        self.validations["last"] = found
        self.validations.setdefault("first", found)
        if step == 0:
            self._learned.codes_validated = codes if self._progress.came_trained else 0.0
            return None
        before = self._learned.codes_validated
        collapsed = self._recent.validation_collapsed = self._has_collapsed(metrics)
        shrinking = config.enabled and self._codebooks.are_being_lost()
        if not collapsed and self._progress.is_clear(_gap(metrics)):
            self._state.believe(VALIDATED)
        if not (collapsed or shrinking) and self._is_better(metrics):
            self.validations["best"], self._learned.validations_without_best = found, 0
            return None
        self._learned.validations_without_best += step > self._warmup_steps
        if self._is_over() and config.enabled:
            without_best = self._learned.validations_without_best
            return alarms.validation_worsens(step, metrics, self.validations["best"], without_best=without_best)
        if collapsed and config.enabled:
            return alarms.validation_collapsed(step, metrics, config, floor=self._floor, before=before)
        now, near = self._codebooks.in_use()
        return alarms.codes_shrink(step, config, codes=now, before=near) if shrinking else None

    def concerns(self) -> list[str]:
        """Why a checkpoint written now would not be healthy; empty: it would be."""
        recent = self._recent
        if not self._config.enabled:
            return []
        streaks = {name: count for name, count in recent.streaks.items() if count}
        kinds = {name.partition(":")[0]: count for name, count in streaks.items() if not self._progress.is_usual(name)}
        found = [f"{words} ({kinds[kind]} in a row)" for kind, words in CONCERNS.items() if kind in kinds]
        if recent.spike_steps:
            found.append(f"the gradient norm spiked {len(recent.spike_steps)} times in the last steps")
        if self._codebooks.are_being_lost():
            found.append("codes in use are being lost")
        if recent.validation_collapsed:
            found.append("the codebooks had collapsed at the last validation")
        return found

    def hear_others(self) -> None:
        """Forget what is a measure of the speech that was heard so far: others join from here on, or some end."""
        self._state.recent = Recent()
        self._learned.held_gap, self._learned.validations_without_best = 0.0, 0

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
        """All that a checkpoint keeps of this watch, besides the validations: JSON values.

        `behind`: the step before which a checkpoint is certainly behind the start of a fall of codes in use, if any.
        """
        return {"rollbacks": self.rollbacks, "behind": self._codebooks.fall_began(), **self._state.as_json()}

    @property
    def _learned(self) -> Learned:
        return self._state.learned

    @property
    def _recent(self) -> Recent:
        return self._state.recent

    @property
    def _progress(self) -> Progress:
        return Progress(self._config, self._state, starts_at=self._starts_at, warmup_steps=self._warmup_steps)

    @property
    def _codebooks(self) -> Codebooks:
        return Codebooks(self._config, self._state, came_trained=self._progress.came_trained)

    @property
    def _floor(self) -> float:
        """Codes in use, all codebooks together, under which a validation says nothing."""
        return self._config.min_group_perplexity * self._learned.num_codebooks

    def _has_collapsed(self, metrics: Mapping[str, float]) -> bool:
        """Whether a validation has hardly a code in use, or has lost most of those that one had."""
        codes, config = metrics["eval/hard_perplexity"], self._config
        if codes < self._floor or metrics["eval/chance_loss"] < config.min_contrastive_loss:
            return True
        return config.enabled and self._codebooks.judge_validation(codes)

    def _check_finite(self, numbers: UpdateNumbers) -> Alarm | None:
        values = (numbers.contrastive_loss, numbers.accuracy, numbers.chance_loss, numbers.grad_norm)
        finite = all(map(math.isfinite, (*values, *numbers.perplexities)))
        config, recent = self._config, self._recent
        in_a_row = recent.count("non_finite_update", seen=not finite)
        if finite:
            return None
        recent.skipped_steps = [step for step in recent.skipped_steps if step > numbers.step - config.skip_window]
        recent.skipped_steps.append(numbers.step)
        action: Action = "skip" if config.enabled else "stop"
        too_many = len(recent.skipped_steps) > max(1, config.max_skipped_share * config.skip_window)
        if config.enabled and (in_a_row > config.max_skipped_updates or too_many):
            action = "go_back"
        skipped = len(recent.skipped_steps)
        alarm = alarms.non_finite_update(numbers, config, in_a_row=in_a_row, skipped=skipped, action=action)
        return self._last_resort(alarm)

    def _check_task(self, numbers: UpdateNumbers) -> Alarm | None:
        config = self._config
        solved = numbers.contrastive_loss < config.min_contrastive_loss and numbers.accuracy > config.max_accuracy
        trivial = self._recent.count("trivial_task", seen=solved or numbers.chance_loss < config.min_contrastive_loss)
        if trivial < config.patience:
            return None
        return alarms.trivial_task(numbers, config, in_a_row=trivial)

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
            return alarm
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
        if not math.isfinite(metrics["eval/objective"]):
            return False
        best = self.validations.get("best")
        best_loss = math.inf if best is None else best["eval/objective"]
        return (self._is_at_chance(metrics), metrics["eval/objective"]) < (self._is_at_chance(best), best_loss)

    def _is_at_chance(self, metrics: Mapping[str, float] | None) -> bool:
        """Whether a validation is no better than guessing, or there is none."""
        return metrics is None or _gap(metrics) >= -self._config.chance_margin

    def _is_over(self) -> bool:
        """Whether there was no new best for so long that the run ends."""
        patience, without_best = self._config.early_stop_patience, self._learned.validations_without_best
        return 0 < patience <= without_best and not self._is_at_chance(self.validations.get("best"))

    def _last_resort(self, alarm: Alarm) -> Alarm:
        """The alarm as it is, unless the run may not go back once more: then it ends it."""
        if alarm.action != "go_back" or self.rollbacks < self._config.max_rollbacks:
            return alarm
        return alarms.last_resort(alarm, rollbacks=self.rollbacks, learning_rate_scale=self.learning_rate_scale)


def _gap(metrics: Mapping[str, float]) -> float:
    """Contrastive loss of a validation minus that of guessing, nats."""
    return metrics["eval/contrastive_loss"] - metrics["eval/chance_loss"]
