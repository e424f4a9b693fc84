"""Floating-point operations of training, from the model's shape: two for each multiply-add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TRAINING = 3
"""Forward and backward cost three forwards: gradients are taken for inputs and for weights."""


@dataclass(frozen=True)
class Flops:
    """Operations of one forward pass over one clip, by part."""

    feature_encoder: int
    waveform: int
    """Of `feature_encoder`, its first layer, whose input needs no gradient."""
    positions: int
    layers: int
    attention: int
    """Scores and weighted sums; the projections around them count as layers."""
    objective: int

    @property
    def training(self) -> int:
        """Forward and backward."""
        forward = self.feature_encoder + self.positions + self.layers + self.attention + self.objective
        return TRAINING * forward - self.waveform


def count_flops(config: Any, num_samples: int, num_masked: int | None = None) -> Flops:
    """Matrix products and convolutions of a clip. `num_masked` defaults to half of its frames."""
    encoder, waveform, channels, length = 0, 0, 1, num_samples
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = (length - kernel) // stride + 1
        products = 2 * length * kernel * channels * width
        waveform = waveform or products
        encoder += products
        channels = width
    hidden, frames = config.hidden_size, length
    masked = frames // 2 if num_masked is None else num_masked
    groups, codes = config.num_codevector_groups, config.num_codevectors_per_group
    padded_frames = frames + 1 - config.num_conv_pos_embeddings % 2  # an even kernel gives one frame more
    positions = config.num_conv_pos_embeddings * hidden * hidden // config.num_conv_pos_embedding_groups
    layer = 4 * hidden * hidden + 2 * hidden * config.intermediate_size
    objective = (
        channels * groups * codes  # scores of the codes
        + codes * config.codevector_dim  # the chosen codevectors
        + (config.codevector_dim + hidden) * config.proj_codevector_dim
        + masked * config.proj_codevector_dim  # similarities
    )
    return Flops(
        feature_encoder=encoder,
        waveform=waveform,
        positions=2 * padded_frames * positions,
        layers=2 * frames * (channels * hidden + config.num_hidden_layers * layer),
        attention=2 * 2 * frames * frames * hidden * config.num_hidden_layers,
        objective=2 * masked * objective,
    )
