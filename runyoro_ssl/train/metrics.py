"""Numbers of the updates since the last log line: summed on the device, read once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from runyoro_ssl.train.objective import Objective, perplexity


class Meter:
    """Sums objectives over micro-batches, updates and processes; means are per masked frame."""

    def __init__(self, accelerator: Any, model_config: Any) -> None:
        self._accelerator = accelerator
        self._diversity_loss_weight = model_config.diversity_loss_weight
        self._code_shape = (model_config.num_codevector_groups, model_config.num_codevectors_per_group)
        self._reset()

    def add(self, objective: Objective, num_masked: int) -> None:
        """Count one micro-batch. Nothing leaves the device."""
        self._sums += torch.stack(
            [
                objective.contrastive_loss,
                objective.diversity_loss,
                objective.num_correct.to(torch.float32),
                objective.chance_loss,
            ]
        )
        self._code_mass += objective.code_mass
        self._num_masked += num_masked

    def _reset(self) -> None:
        device = self._accelerator.device
        self._sums = torch.zeros(4, device=device)
        self._code_mass = torch.zeros(self._code_shape, device=device)
        self._num_masked = 0

    def read(self, stage: str, *, whole_set: bool = False) -> dict[str, float]:
        """Means since the last read, over all processes, named `<stage>/…`; then starts anew.

        With `whole_set`, the diversity loss is that of all clips together and not the mean over micro-batches: it
        then does not depend on how they were batched.
        """
        sums, mass, num_masked = self._totals()
        count = max(1.0, num_masked)
        contrastive, diversity, correct, chance = (value / count for value in sums.tolist())
        codes_in_use = float(perplexity(mass)) if num_masked else 0.0
        if whole_set:
            diversity = (mass.numel() - codes_in_use) / mass.numel()
        return {
            f"{stage}/loss": contrastive + self._diversity_loss_weight * diversity,
            f"{stage}/contrastive_loss": contrastive,
            f"{stage}/diversity_loss": diversity,
            f"{stage}/accuracy": correct,
            f"{stage}/codevector_perplexity": codes_in_use,
            f"{stage}/chance_loss": chance,
        }

    def _totals(self) -> tuple[torch.Tensor, torch.Tensor, float]:
        count = torch.tensor(float(self._num_masked), device=self._sums.device)
        sums, mass, total = (self._accelerator.reduce(t, "sum").cpu() for t in (self._sums, self._code_mass, count))
        self._reset()
        return sums, mass, float(total)


@dataclass
class Stopwatch:
    """Audio seconds per second of training, and the share of it spent waiting for data.

    Validation and saving are paused out.
    """

    audio_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    wait_seconds: float = 0.0
    _since: float = field(default_factory=time.perf_counter, init=False)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        start = time.perf_counter()
        yield
        self.wait_seconds += time.perf_counter() - start

    def pause(self) -> None:
        """Stop counting time."""
        self.elapsed_seconds += time.perf_counter() - self._since

    def go_on(self) -> None:
        """Count time again."""
        self._since = time.perf_counter()

    def lap(self) -> tuple[float, float]:
        """Audio seconds per second, and the waiting share, since the last lap; starts anew. Not while paused."""
        self.pause()
        elapsed = max(self.elapsed_seconds, 1e-9)
        result = self.audio_seconds / elapsed, self.wait_seconds / elapsed
        self.audio_seconds = self.elapsed_seconds = self.wait_seconds = 0.0
        self.go_on()
        return result
