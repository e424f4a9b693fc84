"""The edges of the trainer, replaced: clock, device, builder of batches, share and disk. All else is the real thing."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from accelerate import optimizer

from runyoro_ssl.batches import loader, loading
from runyoro_ssl.batches.build import BatchBuilder, TrainingBatch
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.batches.plan import Update
from runyoro_ssl.builtins.loggers import JsonlLogger
from runyoro_ssl.disk import durable
from runyoro_ssl.evaluate import heldout
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.model.masking import Masks
from runyoro_ssl.model.objective import Objective
from runyoro_ssl.train.checkpoints import saver
from runyoro_ssl.train.step import Stepper
from runyoro_ssl.train.stopping import clock as run_clock
from simulated.clock import SimulatedClock, SimulatedExecutor, SimulatedThreading
from simulated.disk import Disk
from simulated.faults import STEP_SEC, STEP_SPREAD, VALIDATION_SEC, Faults
from simulated.ledger import Ledger, course_of
from simulated.share import Share, SimulatedPrefetch

NUM_MASKED = 100
CHANCE, FIRST_LOSS, LAST_LOSS = 4.6, 4.4, 2.0
"""Nats."""


def draw_of(plans: Sequence[MicroBatch]) -> float:
    """A number in [0, 1) that follows from the micro-batches of an update, and from nothing else."""
    return (hash(tuple((plan.epoch, plan.index, plan.clips) for plan in plans)) & 0xFFFFFF) / (1 << 24)


def loss_of(plans: Sequence[MicroBatch]) -> float:
    """The contrastive loss that an update shows, nats."""
    return LAST_LOSS + (FIRST_LOSS - LAST_LOSS) / (1 + plans[0].epoch) + 0.1 * draw_of(plans)


@dataclass
class Device:
    """The device: it learns nothing, but each update leaves its own trace in every weight and moment."""

    clock: SimulatedClock
    faults: Faults
    ledger: Ledger | None
    """None: nothing is noted, and no time passes."""
    _update: Update | None = None
    _bases: dict[int, list[torch.Tensor]] = field(default_factory=dict)

    def take(self, real: Callable[..., dict[str, float]]) -> Callable[..., dict[str, float]]:
        """Stepper.take, with a line in the ledger."""

        def take(stepper: Stepper, update: Update, batches: Sequence[TrainingBatch], meter: Meter) -> dict[str, float]:
            self._update = update
            numbers = real(stepper, update, batches, meter)
            if self.ledger is not None:
                self.ledger.note_step(update.step, course_of(stepper.rate_scale), self._kind(stepper), self.clock)
            return numbers

        return take

    def accumulate(self) -> Callable[[Stepper, Sequence[TrainingBatch], Meter], None]:
        """Stepper._accumulate: the gradient, and what the update shows, by the clips that came."""

        def accumulate(stepper: Stepper, batches: Sequence[TrainingBatch], meter: Meter) -> None:
            self._compute(stepper, batches, meter)

        return accumulate

    def _compute(self, stepper: Stepper, batches: Sequence[TrainingBatch], meter: Meter) -> None:
        plans = [batch.plan for batch in batches]
        draw, kind = draw_of(plans), self._kind(stepper)
        if self.ledger is not None:
            self.clock.pass_by(STEP_SEC * (1 + STEP_SPREAD * (2 * draw - 1)))
        parameters = [parameter for parameter in stepper.model.parameters() if parameter.requires_grad]
        scale = math.nan if kind == "gradient" else 0.5 + draw
        for parameter, gradient in zip(parameters, torch._foreach_mul(self._bases_of(parameters), scale), strict=True):
            parameter.grad = gradient
        loss = math.nan if kind == "loss" else loss_of(plans)
        stepper.losses[:] = [(plan, torch.tensor(loss)) for plan in plans]
        for batch in batches:
            meter.add(objective_of(loss, batch.num_masked, stepper.model.config), batch.num_masked)

    def validate(self, _accelerator: Any, model: Any, batch: TrainingBatch) -> Objective:
        """run_objective of a validation."""
        if self.ledger is not None:
            self.clock.pass_by(VALIDATION_SEC)
        return objective_of(validated_loss(model), batch.num_masked, model.config)

    def _kind(self, stepper: Stepper) -> str | None:
        """Which number of the update is none."""
        assert self._update is not None
        course, kind = self.faults.nan.get(self._update.step, (None, None))
        return kind if course in (-1, course_of(stepper.rate_scale)) else None

    def _bases_of(self, parameters: Sequence[torch.nn.Parameter]) -> list[torch.Tensor]:
        """A gradient of norm 1 for all parameters together; that of vectors always goes the same way."""
        if id(parameters[0]) not in self._bases:
            draw = torch.Generator().manual_seed(0)
            made = [torch.randn(parameter.shape, generator=draw) for parameter in parameters]
            made = [base if base.ndim > 1 else base.abs() for base in made]
            norm = math.sqrt(sum(float(base.square().sum()) for base in made))
            self._bases = {id(parameters[0]): [base / norm for base in made]}
        return self._bases[id(parameters[0])]


def validated_loss(model: Any) -> float:
    """The contrastive loss that a validation shows, nats: the lower, the further one weight has gone."""
    return LAST_LOSS + (FIRST_LOSS - LAST_LOSS) / (1 - float(model.project_q.bias.detach()[0]))


def objective_of(loss: float, num_masked: int, config: Any) -> Objective:
    """What a micro-batch shows, as sums over its masked frames."""
    groups, codes = config.num_codevector_groups, config.num_codevectors_per_group
    sums = torch.tensor([loss, 0.1, 0.5, CHANCE]) * num_masked
    mass = torch.full((groups, codes), num_masked / codes)
    return Objective(sums[0], sums[0], sums[1], sums[2], sums[3], mass)


def build_batch(_builder: BatchBuilder, plan: MicroBatch) -> TrainingBatch:
    """BatchBuilder.__getitem__, without audio."""
    count, nothing = len(plan.clips), torch.empty(0)
    masks = Masks(nothing, None, nothing, nothing, nothing)
    return TrainingBatch(nothing, None, masks, count * NUM_MASKED, (16_000,) * count, plan)


@contextmanager
def replaced_edges(clock: SimulatedClock, faults: Faults, ledger: Ledger | None, disk: Disk) -> Iterator[None]:
    """The trainer on a simulated machine; without a ledger, no time passes on its device."""
    device, share = Device(clock, faults, ledger), Share(clock, faults)
    SimulatedExecutor.clock = clock
    SimulatedPrefetch.share = share
    replacements: list[tuple[Any, str, Any]] = [
        (run_clock, "time", clock),
        (loading, "time", clock),
        (loading, "Prefetch", SimulatedPrefetch),
        (loader, "_started", share.started),
        (BatchBuilder, "__getitem__", build_batch),
        (Stepper, "take", device.take(Stepper.take)),
        (Stepper, "_accumulate", device.accumulate()),
        (optimizer, "is_lomo_available", bool),  # accelerate looks through the disk for it at each step
        (heldout, "run_objective", device.validate),
        (saver, "ThreadPoolExecutor", SimulatedExecutor),
        (saver, "threading", SimulatedThreading(clock)),
        (durable, "_full_sync", disk.sync),
        (shutil, "disk_usage", disk.usage),
        (shutil, "rmtree", disk.remove(shutil.rmtree)),
        (JsonlLogger, "open", disk.limit(JsonlLogger.open)),
    ]
    with ExitStack() as stack:
        for owner, name, value in replacements:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield
