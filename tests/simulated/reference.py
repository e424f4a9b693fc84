"""What a run must come to: the same updates, one after another, with nothing around them that could go wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from runyoro_ssl.batches.plan import Update
from runyoro_ssl.config import Config
from runyoro_ssl.evaluate.metrics import UpdateNumbers
from runyoro_ssl.train.checkpoints.format import GENERATORS, OPTIMIZER, take_snapshot
from simulated.clock import SimulatedClock
from simulated.disk import Disk
from simulated.edges import NUM_MASKED, build_batch, loss_of, replaced_edges, validated_loss
from simulated.faults import Faults
from support.trainer import build, equal

KEPT = 60
"""States of steps to which the run may go back."""


@dataclass
class Lineage:
    """The updates that the state of a run is made of, in order: of each, in which course it was learned.

    The first is that of step 1.
    """

    courses: list[int] = field(default_factory=list)

    def add(self, step: int, course: int) -> str | None:
        """Learn an update. Returns what is wrong with its place, in words."""
        at, last = len(self.courses), self.courses[-1] if self.courses else 0
        problem = None
        if step > at + 1:
            problem = f"step {step} was taken after step {at}: what is between was left out"
        elif step <= at and course <= last:
            problem = f"step {step} was taken again after step {at}, and the run had not gone back"
        del self.courses[step - 1 :]
        self.courses += [course] * (step - len(self.courses))
        return problem

    def cut(self, step: int) -> int:
        """Forget what came after a step. Returns how many updates that were."""
        lost = max(0, len(self.courses) - step)
        del self.courses[step:]
        return lost


class Reference:
    """The state after each update of a lineage.

    `sums`: masked frames and their losses, by step. `validated`: the loss of a validation there.
    """

    def __init__(self, config: Config, faults: Faults, folder: Path) -> None:
        apart = {"output_dir": folder, "resume_from_checkpoint": None}
        self._faults, self._clock = faults, SimulatedClock()
        config = config.model_copy(update={"train": config.train.model_copy(update=apart)})
        with self._edges():
            self.run = build(config)
            self.run.stepper.judge = _is_finite
            self.validated = [validated_loss(self.run.model)]
        self.sums: list[tuple[int, float]] = [(0, 0.0)]
        self._courses: list[int] = []
        self._updates: Iterator[Update] = iter(())
        self._kept: dict[int, tuple[dict[str, torch.Tensor], dict[str, Any]]] = {}
        self._keep()

    @property
    def step(self) -> int:
        """Of the last update."""
        return len(self._courses)

    def go_to(self, courses: Sequence[int]) -> None:
        """Come to the state after these updates."""
        pairs = enumerate(zip(self._courses, courses, strict=False))
        same = next((at for at, (one, other) in pairs if one != other), min(self.step, len(courses)))
        if same < self.step:
            self._go_back(max(step for step in self._kept if step <= same))
        with self._edges():
            while self.step < len(courses):
                self._take(courses[self.step])
        self._keep()

    def differs(self, checkpoint: Path) -> str | None:
        """In what a checkpoint is not this state: weights and moments, to the bit."""
        with self._edges():
            snapshot = take_snapshot(
                self.run.model, self.run.optimizer.optimizer, {}, {"step": self.step, "concerns": []}
            )
        saved = load_file(checkpoint / OPTIMIZER)
        moments = {name: value for name, value in saved.items() if not name.startswith(GENERATORS)}
        for what, ours, theirs in (
            ("weights", snapshot.weights, load_file(checkpoint / "model.safetensors")),
            ("moments", snapshot.moments, moments),
        ):
            if not equal(ours, theirs):
                return (
                    f"{checkpoint.name}: its {what} are not those of {self.step} updates, each learned once, in order"
                )
        return None

    def _edges(self) -> Any:
        return replaced_edges(self._clock, self._faults, None, Disk(self._clock, Faults((), (), (), (), ())))

    def _take(self, course: int) -> None:
        stepper = self.run.stepper
        update = next(self._updates, None)
        if update is None or update.step != self.step + 1:
            self._updates = self.run.plan.updates(self.step)
            update = next(self._updates)
        stepper.rate_scale = 0.5**course
        batches = [build_batch(self.run.train_batches, plan) for plan in update.micro_batches]
        stepper.take(update, batches, self.run.meter)
        masked = sum(len(plan.clips) for plan in update.micro_batches) * NUM_MASKED
        is_nan = self._faults.nan.get(update.step, (None,))[0] in (-1, course)
        self.sums.append((0, 0.0) if is_nan else (masked, masked * loss_of(update.micro_batches)))
        self.validated.append(validated_loss(self.run.model))
        self._courses.append(course)

    def _keep(self) -> None:
        state = deepcopy(self.run.optimizer.optimizer.state_dict())
        weights = {name: value.clone() for name, value in self.run.model.state_dict().items()}
        self._kept[self.step] = weights, state
        for step in sorted(self._kept)[1:-KEPT]:
            del self._kept[step]

    def _go_back(self, step: int) -> None:
        weights, state = self._kept[step]
        self.run.model.load_state_dict(weights)
        self.run.optimizer.optimizer.load_state_dict(deepcopy(state))
        if step == 0:
            self.run.optimizer.optimizer.state.clear()
        del self._courses[step:], self.sums[step + 1 :], self.validated[step + 1 :]
        self._kept = {kept: value for kept, value in self._kept.items() if kept <= step}


def _is_finite(numbers: UpdateNumbers) -> bool:
    """An update of numbers is taken, another one is not."""
    return math.isfinite(numbers.contrastive_loss) and math.isfinite(numbers.grad_norm)
