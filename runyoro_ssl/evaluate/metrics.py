"""Measures of training and validation: summed on the device, and read once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from runyoro_ssl.model.objective import Objective, perplexity

SUMS = ("contrastive_loss", "diversity_loss", "num_correct", "chance_loss", "num_masked")


@dataclass(frozen=True)
class UpdateNumbers:
    """The numbers that one optimizer step showed, over all its micro-batches and processes; the same in every process.

    Losses are nats per masked frame; `chance_loss` is that of guessing among the frames that differ. `perplexities`:
    codes in use in each codebook, 1 at collapse. `grad_norm` is that before clipping. A value may be no number.
    """

    step: int
    contrastive_loss: float
    accuracy: float
    chance_loss: float
    perplexities: tuple[float, ...]
    grad_norm: float


@dataclass
class Totals:
    """Sums over masked frames of some updates, on the host: what a run resumed between two log lines needs."""

    contrastive_loss: float = 0.0
    diversity_loss: float = 0.0
    num_correct: float = 0.0
    chance_loss: float = 0.0
    num_masked: float = 0.0
    code_mass: torch.Tensor | None = None
    """float64 (groups, codes)."""

    def add(self, other: Totals) -> None:
        """Add the sums of other updates."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.code_mass is not None:
            self.code_mass = other.code_mass if self.code_mass is None else self.code_mass + other.code_mass

    def of_update(self, step: int, grad_norm: float) -> UpdateNumbers:
        """These sums as the numbers of one optimizer step."""
        count = self.num_masked or math.nan
        mass = self.code_mass
        return UpdateNumbers(
            step=step,
            contrastive_loss=self.contrastive_loss / count,
            accuracy=self.num_correct / count,
            chance_loss=self.chance_loss / count,
            perplexities=() if mass is None else tuple(float(perplexity(group[None])) for group in mass),
            grad_norm=grad_norm,
        )

    def means(self, stage: str, diversity_loss_weight: float, *, whole_set: bool = False) -> dict[str, float]:
        """Means per masked frame, named `<stage>/…`; no numbers where nothing was counted.

        The objective is what is minimised: the contrastive loss, which is what "loss" means wherever a person reads it,
        and the weighted diversity loss. Perplexities count codes in use, all codebooks together: in training, soft,
        those that the quantizer gives weight; in evaluation mode, hard, those that it takes.

        With `whole_set`, in evaluation mode, the diversity loss is that of all clips together and not the mean over
        micro-batches: it then does not depend on how they were batched.
        """
        count = self.num_masked or math.nan
        contrastive, diversity = self.contrastive_loss / count, self.diversity_loss / count
        mass = self.code_mass if self.num_masked else None
        codes_in_use = math.nan if mass is None else float(perplexity(mass))
        if whole_set and mass is not None:
            diversity = (mass.numel() - codes_in_use) / mass.numel()
        return {
            f"{stage}/objective": contrastive + diversity_loss_weight * diversity,
            f"{stage}/contrastive_loss": contrastive,
            f"{stage}/diversity_loss": diversity,
            f"{stage}/accuracy": self.num_correct / count,
            f"{stage}/{'hard' if whole_set else 'soft'}_perplexity": codes_in_use,
            f"{stage}/chance_loss": self.chance_loss / count,
        }

    def to_json(self) -> dict[str, Any]:
        """Every sum as a JSON value, exactly."""
        mass = None if self.code_mass is None else self.code_mass.tolist()
        return {**{name: getattr(self, name) for name in SUMS}, "code_mass": mass}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Totals:
        """The sums that `to_json` gave."""
        mass = value["code_mass"]
        kept = None if mass is None else torch.tensor(mass, dtype=torch.float64)
        return cls(**{name: value[name] for name in SUMS}, code_mass=kept)


class Meter:
    """Sums of objectives over micro-batches, on the device; `window` sums the updates since the last log line."""

    def __init__(self, accelerator: Any, model_config: Any) -> None:
        self.window = Totals()
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

    def take(self) -> Totals:
        """Give what was counted since the last time, over all processes; waits for the device."""
        count = torch.tensor([float(self._num_masked)], device=self._sums.device)
        every = torch.cat([self._sums, count, self._code_mass.flatten()])
        every = self._accelerator.reduce(every, "sum").cpu().double()
        self._reset()
        sums = dict(zip(SUMS, every[: len(SUMS)].tolist(), strict=True))
        return Totals(**sums, code_mass=every[len(SUMS) :].view(self._code_shape))

    def read(self, stage: str, *, whole_set: bool = False) -> dict[str, float]:
        """Give the means of the window, named `<stage>/…`, and start a new one."""
        window, self.window = self.window, Totals()
        return window.means(stage, self._diversity_loss_weight, whole_set=whole_set)

    def _reset(self) -> None:
        device = self._accelerator.device
        self._sums = torch.zeros(4, device=device)
        self._code_mass = torch.zeros(self._code_shape, device=device)
        self._num_masked = 0
