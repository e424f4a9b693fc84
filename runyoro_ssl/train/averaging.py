"""An exponential moving average of the weights that learn, beside the training: a candidate for the final model.

After t updates it is the mean of the weights w_1 … w_t, each weighed by decay^(t - i). The weights that came are not in
it, as they would be with an average that begins at them, for 1 / (1 - decay) updates most of it: a short run's would be
the base model. A mixture with that is asked for by `train.interpolate`. Kingma & Ba, 2015, arXiv 1412.6980, sec. 3:
bias correction; what averages of weights are good for: Morales-Brotons et al., 2024, arXiv 2411.18704.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """The average of what learns in a model: fp32, where the weights are; of a sharded model, this process's part."""

    def __init__(self, model: Any, decay: float) -> None:
        self._decay = decay
        self._weights = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self.averages = {
            name: torch.empty_like(one, requires_grad=False, dtype=torch.float32) for name, one in self._weights.items()
        }
        """By the names of the weights; of no meaning before the first update."""
        self.num_updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimizer step. The device is not waited for."""
        averages, weights = _here(self.averages.values()), _here(self._weights.values())
        self.num_updates += 1
        if self.num_updates == 1:  # nothing of what lay there, which may be no numbers
            torch._foreach_copy_(averages, weights)
            return
        share = (1 - self._decay) / (1 - self._decay**self.num_updates)
        get_ema_multi_avg_fn(1 - share)(averages, weights, None)  # type: ignore[no-untyped-call]  # torch's own

    def restart(self) -> None:
        """Forget what was: the next update is the first."""
        self.num_updates = 0

    @torch.no_grad()
    def put_back(self, averages: Mapping[str, torch.Tensor], *, num_updates: int) -> None:
        """Go on from averages, whole, after so many updates."""
        self.num_updates = num_updates
        for name, average in self.averages.items():
            average.copy_(averages[name])


def _here(tensors: Iterable[Any]) -> list[torch.Tensor]:
    """What of tensors this process holds."""
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
