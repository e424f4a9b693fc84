"""The forward pass of one micro-batch, from waveforms to the objective."""

from __future__ import annotations

from typing import Any

import torch

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.model.context import LeftOut
from runyoro_ssl.model.forward import encode
from runyoro_ssl.model.layer_drop import pass_by
from runyoro_ssl.model.objective import Objective, compute_objective


def run_objective(accelerator: Any, model: Any, batch: TrainingBatch) -> Objective:
    """Run the forward pass of one micro-batch: network under autocast, objective in fp32.

    `model`: a Wav2Vec2ForPreTraining; or an `ObjectiveNetwork` around it, which several processes train together.
    """
    if hasattr(model, "wav2vec2"):
        return _compute(accelerator, model, batch, pass_by)
    return Objective(**model(batch))


class ObjectiveNetwork(torch.nn.Module):
    """A model whose forward pass is the objective of a micro-batch: what DDP and FSDP take for a module's own.

    `left_out`: what is done with a layer that layer drop leaves out here, and perhaps not in another process.
    """

    def __init__(self, accelerator: Any, model: Any, left_out: LeftOut) -> None:
        super().__init__()
        self.model = model
        self._accelerator, self._left_out = accelerator, left_out

    @property
    def config(self) -> Any:
        """The model's Wav2Vec2Config."""
        return self.model.config

    def forward(self, batch: TrainingBatch) -> dict[str, torch.Tensor]:
        """The fields of the Objective, in a container that torch looks into for what is to be differentiated."""
        return vars(_compute(self._accelerator, self.model, batch, self._left_out))


def _compute(accelerator: Any, model: Any, batch: TrainingBatch, left_out: LeftOut) -> Objective:
    masks = batch.masks
    with accelerator.autocast():
        context, features = encode(
            model,
            batch.waveforms,
            attention_mask=batch.attention_mask,
            time_mask=masks.time_mask,
            feature_mask=masks.feature_mask,
            left_out=left_out,
        )
    return compute_objective(
        model, context, features, positions=masks.positions, valid=masks.valid, negatives=masks.negatives
    )
