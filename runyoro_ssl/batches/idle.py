"""A micro-batch that teaches nothing, for a process that has none where all must take part."""

from __future__ import annotations

from typing import Any

import torch

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.batches.micro_batches import MicroBatch
from runyoro_ssl.model.masking import MIN_MASKED_FRAMES, Masks

NUM_FRAMES = 8


def idle_batch(model_config: Any) -> TrainingBatch:
    """One clip of faint noise, as short as the model takes, of which no masked frame counts: its loss is exactly 0.

    Every parameter that a clip reaches has a gradient by it, of zeros.
    """
    noise = torch.randn(1, _num_samples(model_config), generator=torch.Generator().manual_seed(0))
    time_mask = torch.zeros(1, NUM_FRAMES, dtype=torch.bool)
    time_mask[:, :MIN_MASKED_FRAMES] = True
    positions = torch.arange(MIN_MASKED_FRAMES)[None]
    negatives = positions.flip(1)[..., None].expand(-1, -1, model_config.num_negatives).contiguous()
    masks = Masks(time_mask, None, positions, torch.zeros_like(positions, dtype=torch.bool), negatives)
    return TrainingBatch(noise, None, masks, 0, (noise.shape[1],), MicroBatch(0, 0, ()))


def _num_samples(model_config: Any) -> int:
    """Samples of which the feature encoder makes `NUM_FRAMES` frames."""
    num = NUM_FRAMES
    for kernel, stride in reversed(list(zip(model_config.conv_kernel, model_config.conv_stride, strict=True))):
        num = (num - 1) * stride + kernel
    return num
