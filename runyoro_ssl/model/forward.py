"""The forward pass, up to the context vectors, as `Wav2Vec2Model.forward`."""

from __future__ import annotations

from typing import Any

import torch

from runyoro_ssl.model.context import LeftOut, run_context_network
from runyoro_ssl.model.encoder import encode_waveforms
from runyoro_ssl.model.layer_drop import pass_by


def num_frames(num_samples: torch.Tensor, config: Any) -> torch.Tensor:
    """Frames the feature encoder makes of each clip. int64 (B,) -> int64 (B,)."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        num_samples = (num_samples - kernel) // stride + 1
    return num_samples.clamp(min=0)


def encode(
    model: Any,
    waveforms: torch.Tensor,
    *,
    attention_mask: torch.Tensor | None,
    time_mask: torch.Tensor,
    feature_mask: torch.Tensor | None,
    left_out: LeftOut = pass_by,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run feature encoder, masking and context network, as `Wav2Vec2Model.forward` does with given masks.

    Args:
        model: Wav2Vec2ForPreTraining.
        waveforms: float (B, T), normalised as the feature extractor asks.
        attention_mask: bool (B, F), True at real frames; None when nothing is padding.
        time_mask: bool (B, F), True where the mask embedding replaces the features.
        feature_mask: bool (B, H), True where a hidden dimension is set to zero; None for none.
        left_out: As in `run_context_network`.

    Returns:
        context (B, F, H), and features (B, F, C): the unmasked, normalised output of the feature encoder.
    """
    wav2vec2 = model.wav2vec2
    if model.config.feat_extract_activation == "gelu":
        features = encode_waveforms(wav2vec2.feature_extractor, waveforms)
    else:
        features = wav2vec2.feature_extractor(waveforms.clone()).transpose(1, 2)
    hidden, features = wav2vec2.feature_projection(features)
    hidden = torch.where(time_mask[..., None], wav2vec2.masked_spec_embed.to(hidden.dtype), hidden)
    if feature_mask is not None:
        hidden = hidden.masked_fill(feature_mask[:, None, :], 0.0)
    context = run_context_network(wav2vec2.encoder, hidden, attention_mask, left_out=left_out)
    return context, features
