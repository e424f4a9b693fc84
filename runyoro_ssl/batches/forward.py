"""The forward pass of one micro-batch, from waveforms to the objective."""

from __future__ import annotations

from typing import Any

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.model.forward import encode
from runyoro_ssl.model.objective import Objective, compute_objective


def run_objective(accelerator: Any, model: Any, batch: TrainingBatch) -> Objective:
    """Run the forward pass of one micro-batch: network under autocast, objective in fp32."""
    masks = batch.masks
    with accelerator.autocast():
        context, features = encode(
            model,
            batch.waveforms,
            attention_mask=batch.attention_mask,
            time_mask=masks.time_mask,
            feature_mask=masks.feature_mask,
        )
    return compute_objective(
        model, context, features, positions=masks.positions, valid=masks.valid, negatives=masks.negatives
    )
