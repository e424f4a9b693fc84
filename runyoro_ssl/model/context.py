"""The context network, run layer by layer through transformers' own modules, without its host syncs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from runyoro_ssl.model.attention import is_fused
from runyoro_ssl.model.layer_drop import pass_by

NARROW_GROUP = 16
LeftOut = Callable[[Any, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""(layer, hidden, mask of keys) -> hidden."""


def run_context_network(
    encoder: Any, hidden: torch.Tensor, attention_mask: torch.Tensor | None, *, left_out: LeftOut = pass_by
) -> torch.Tensor:
    """Run a `Wav2Vec2Encoder` or `Wav2Vec2EncoderStableLayerNorm`: (B, F, H) -> (B, F, H), as its own forward.

    Their own forward asks the device, at every call, whether the mask hides anything; here None says so beforehand,
    and attention then runs without one.

    Args:
        encoder: `model.wav2vec2.encoder`.
        hidden: Projected, masked features.
        attention_mask: bool (B, F), True at real frames; None when nothing is padding.
        left_out: What is done with a layer that layer drop leaves out; a function of `layer_drop`.
    """
    if attention_mask is not None:
        hidden = hidden.masked_fill(~attention_mask[..., None], 0.0)
    hidden = hidden + convolve_positions(encoder.pos_conv_embed, hidden)
    stable = encoder.config.do_stable_layer_norm
    if not stable:
        hidden = encoder.layer_norm(hidden)
    hidden = encoder.dropout(hidden)
    keys = mask_keys(attention_mask, hidden, sdpa=is_fused(encoder.config))
    for layer in encoder.layers:
        run = left_out if _skips_layer(encoder) else _run
        hidden = run(layer, hidden, keys)
    return encoder.layer_norm(hidden) if stable else hidden


def convolve_positions(embedding: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The positional convolution; in fp32 on a CPU where its groups are narrow (XLS-R has 64 channels in each).

    On CPUs with AMX, oneDNN 3.12 of torch 2.13 convolves groups of 2 to 14 channels in bf16 wrongly: no error, and a
    result that is off by more than its own size. A test holds it to the right one.
    """
    conv = embedding.conv
    if hidden.device.type != "cpu" or conv.in_channels // conv.groups >= NARROW_GROUP:
        return embedding(hidden)  # type: ignore[no-any-return]
    with torch.autocast("cpu", enabled=False):
        return embedding(hidden.float())  # type: ignore[no-any-return]


def _run(layer: Any, hidden: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
    return layer(hidden, attention_mask=keys)  # type: ignore[no-any-return]


def _skips_layer(encoder: Any) -> bool:
    """LayerDrop (Fan et al., 2020), drawn on the CPU as transformers does: the device is not asked."""
    rate = encoder.config.layerdrop
    return bool(encoder.training and rate > 0 and torch.rand(()) < rate)


def mask_keys(attention_mask: torch.Tensor | None, hidden: torch.Tensor, *, sdpa: bool) -> torch.Tensor | None:
    """(B, 1, 1, F): bool for SDPA, added to the scores for eager attention."""
    if attention_mask is None:
        return None
    keys = attention_mask[:, None, None, :]
    if sdpa:
        return keys
    return torch.zeros_like(keys, dtype=hidden.dtype).masked_fill(~keys, torch.finfo(hidden.dtype).min)
