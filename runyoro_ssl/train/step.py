"""One optimizer step of a run. Needs torch, transformers and Accelerate only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.batches.forward import run_objective
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.batches.plan import Update
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.evaluate.metrics import Meter, UpdateNumbers
from runyoro_ssl.model.draws import derive_seed
from runyoro_ssl.model.objective import Objective
from runyoro_ssl.processes import sum_over_processes
from runyoro_ssl.train.optim import gumbel_temperature, learning_rate, set_learning_rate, warmup_steps
from runyoro_ssl.train.sharing.ways import Alone, Portion, Sharing

if TYPE_CHECKING:
    from runyoro_ssl.config import TrainConfig  # the bench runs where there is no pydantic


@dataclass
class Stepper:
    """The taker of optimizer steps: a model, its optimizer as Accelerate prepared it, and the schedules' settings.

    `num_parts`: in how many parts each micro-batch runs; doubled when memory is short. `report` is then told.
    `judge` sees the numbers of each update before the optimizer does, and says whether it is taken. `after_step` is
    called when weights have changed. `rate_scale`: share of the scheduled learning rate to use.
    """

    accelerator: Any
    model: Any
    optimizer: Any
    settings: TrainConfig
    total_steps: int
    report: Callable[[int], None] = lambda _num_parts: None
    sharing: Sharing | None = None
    """How several processes share the model; None: there is one."""
    num_parts: int = 1
    judge: Callable[[UpdateNumbers], bool] = lambda _numbers: True
    after_step: Callable[[], None] | None = None
    rate_scale: float = 1.0
    losses: list[tuple[MicroBatch, torch.Tensor]] = field(default_factory=list)
    """Of the last update: this process's micro-batches and their contrastive losses, which stay on the device."""

    def __post_init__(self) -> None:
        self.way: Sharing = self.sharing or Alone(self.model)

    def take(self, update: Update, batches: Sequence[TrainingBatch], meter: Meter) -> dict[str, float]:
        """Take one step along the gradient of the mean loss per masked frame, over all micro-batches and processes.

        Dropout, layer drop and Gumbel noise are seeded for each micro-batch, so that they depend neither on what ran
        before nor on which process runs it. The diversity loss is that of each micro-batch (or part of one),
        weighted by its masked frames, as in fairseq and transformers. What the update showed is added to the meter's
        window, unless it was not taken. The device is waited for once: an update that is judged must be computed.

        Raises:
            torch.OutOfMemoryError, RuntimeError: Even a single clip is too much.
        """
        settings, accelerator = self.settings, self.accelerator
        done, total = update.step - 1, self.total_steps
        temperature = gumbel_temperature(
            done, start=settings.gumbel_temperature_start, end=settings.gumbel_temperature_end, total=total
        )
        peak = settings.learning_rate * self.rate_scale
        rate = learning_rate(
            done,
            peak=peak,
            warmup=warmup_steps(settings, total),
            total=total,
            is_constant=settings.constant_after_warmup,
        )
        self.model.set_gumbel_temperature(temperature)
        set_learning_rate(self.optimizer, rate)

        self._accumulate(batches, meter)
        _fill_gradients(self.model)
        grad_norm = float(accelerator.clip_grad_norm_(self.model.parameters(), settings.max_grad_norm))
        totals = meter.take()
        if self._is_taken(totals.of_update(update.step, grad_norm)):
            self.optimizer.step()
            meter.window.add(totals)
            if self.after_step is not None and not self.optimizer.step_was_skipped:
                self.after_step()
        elif accelerator.scaler is not None:  # gradients were unscaled, and no step followed
            accelerator.scaler.update(accelerator.scaler.get_scale())
        self.way.forget_gradients(self.optimizer)
        return {"grad_norm": grad_norm, "learning_rate": rate, "gumbel_temperature": temperature}

    def clips_without_numbers(self) -> list[int]:
        """This process's clips (dataset rows) in micro-batches of the last update whose loss was no number.

        Where every loss was one, and only the gradient was not: all clips. Waits for the device.
        """
        finite = [bool(torch.isfinite(loss)) for _, loss in self.losses]
        broken = [plan for (plan, _), good in zip(self.losses, finite, strict=True) if not good]
        return sorted({clip for plan in broken or [plan for plan, _ in self.losses] for clip in plan.clips})

    def _is_taken(self, numbers: UpdateNumbers) -> bool:
        # fp16: gradients that overflow are part of the search for the loss scale; the optimizer leaves them out itself.
        overflow = math.isfinite(numbers.contrastive_loss) and not math.isfinite(numbers.grad_norm)
        return True if overflow and self.accelerator.scaler is not None else self.judge(numbers)

    def _accumulate(self, batches: Sequence[TrainingBatch], meter: Meter) -> None:
        """Leave the gradient, summed over processes. Short of memory, begin anew with each micro-batch in two."""
        num_masked = sum_over_processes(self.accelerator, sum(batch.num_masked for batch in batches))
        while True:
            parts = [
                Portion(part, number) for batch in batches for number, part in enumerate(batch.split(self.num_parts))
            ]
            kept, summed = self.way.divide(parts)
            self.losses.clear()
            with self.way.kept_here():
                objectives, error = self._try(kept, num_masked)
            if not sum_over_processes(self.accelerator, int(error is not None)):
                break
            most_clips = max((len(batch.waveforms) for batch in batches), default=1)
            if not sum_over_processes(self.accelerator, int(self.num_parts < most_clips)):
                raise error or torch.OutOfMemoryError("out of memory in another process")
            self._start_again()
        objectives += [self._backward(part, num_masked) for part in summed]
        self.way.went_through(parts)
        for objective, count in objectives:
            if count:
                meter.add(objective, count)
        if not objectives and self.accelerator.scaler is not None:  # it must scale before it unscales
            self.accelerator.scaler.scale(torch.zeros((), device=self.accelerator.device))

    def _try(
        self, parts: Sequence[Portion], num_masked: int
    ) -> tuple[list[tuple[Objective, int]], RuntimeError | None]:
        """Run parts whose gradients stay in this process; or the error, where memory ran short."""
        try:
            return [self._backward(part, num_masked) for part in parts], None
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return [], error.with_traceback(None)  # its frames hold the activations

    def _backward(self, part: Portion, num_masked: int) -> tuple[Objective, int]:
        batch, plan = part.batch, part.batch.plan
        key: list[int | str] = [self.settings.seed, plan.epoch, plan.index]
        key += [f"part {plan.part}"] if plan.part else []
        torch.manual_seed(derive_seed(*key, "forward", *([part.number] if part.number else [])))
        objective = run_objective(self.accelerator, self.way.network, batch.to(self.accelerator.device))
        if not part.is_idle:
            self.losses.append((plan, objective.contrastive_loss))
        self.accelerator.backward(objective.loss / (max(1, num_masked) / self.way.num_processes))
        return replace(objective, loss=objective.loss.detach()), batch.num_masked

    def _start_again(self) -> None:
        self.num_parts *= 2
        self.report(self.num_parts)
        self.way.forget_gradients(self.optimizer)
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.accelerator.device.type == "mps":
            torch.mps.empty_cache()


def _fill_gradients(model: Any) -> None:
    """Make the gradient of a layer that layer drop skipped in every micro-batch one of zeros, not none.

    AdamW then keeps one count of steps for all parameters, whatever was skipped.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
