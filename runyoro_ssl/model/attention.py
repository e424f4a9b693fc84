"""Attention as transformers computes it, but in fp32 on a CPU whose network runs in bf16."""

from __future__ import annotations

from typing import Any

import torch

from runyoro_ssl.torchaudio_compat import import_transformers

NAME = "sdpa_as_fast"
"""As transformers knows it."""


def use_fast_attention(model: Any) -> None:
    """Have a model that runs fused attention (`sdpa`) run it as below. What is saved of the model stays the same."""
    if model.config._attn_implementation != "sdpa":  # noqa: SLF001 - it has no other name
        return
    transformers = import_transformers()
    transformers.AttentionInterface.register(NAME, _attend)
    transformers.AttentionMaskInterface.register(NAME, transformers.AttentionMaskInterface()["sdpa"])
    model.set_attn_implementation(NAME)


def is_fused(config: Any) -> bool:
    """Whether the attention of a model (Wav2Vec2Config) takes a mask of booleans, as `sdpa` does; eager adds it."""
    return config._attn_implementation in ("sdpa", NAME)  # noqa: SLF001 - it has no other name


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, **options: Any
) -> tuple[torch.Tensor, None]:
    """Attend as transformers would. A CPU takes 3.5 times as long for its backward pass in bf16 as in fp32."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if query.device.type != "cpu" or query.dtype is not torch.bfloat16:
        return sdpa_attention_forward(module, query, key, value, mask, **options)
    with torch.autocast("cpu", enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **options)
    return output.to(query.dtype), None
