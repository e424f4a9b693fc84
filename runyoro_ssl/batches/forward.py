"""The forward pass of one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runyoro_ssl.model.forward import encode
from runyoro_ssl.model.objective import compute_objective

if TYPE_CHECKING:
    from runyoro_ssl.batches.build import TrainingBatch
    from runyoro_ssl.model.objective import Objective


def run_objective(accelerator: Any, model: Any, batch: TrainingBatch) -> Objective:
    """Forward pass of one micro-batch: network under autocast, objective in fp32."""
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
