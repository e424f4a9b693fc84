"""A small random model, and the loss of two of its clips: for what is held, kept and computed in one pass."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

from conftest import TINY, transformers
from runyoro_ssl.config import MaskingConfig
from runyoro_ssl.model.attention import use_fast_attention
from runyoro_ssl.model.forward import encode, num_frames
from runyoro_ssl.model.masking import make_masks
from runyoro_ssl.model.objective import compute_objective

GROUP_NORM = {"do_stable_layer_norm": False, "feat_extract_norm": "group", "conv_bias": False}
NO_DROPOUT = dict.fromkeys(
    ["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "feat_quantizer_dropout"], 0.0
)
SMALL = {**TINY, "hidden_size": 128, "num_hidden_layers": 3, "intermediate_size": 384, "conv_dim": (48,) * 7}
LOSSES = {"layerdrop": 0.0, "num_codevectors_per_group": 64, "codevector_dim": 64, "proj_codevector_dim": 64}
NUM_SAMPLES = 96_000


def build(checkpointing: bool, attention: str = "sdpa", **overrides: Any) -> Any:  # noqa: FBT001 - parametrised
    """A random model in training mode, no layer dropped."""
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForPreTraining(
        transformers.Wav2Vec2Config(**{**SMALL, **LOSSES, **overrides}, attn_implementation=attention)
    )
    use_fast_attention(model)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def compute_loss(model: Any, *, padded: bool, precision: str = "fp32") -> torch.Tensor:
    """Forward pass and objective of two clips of 6 s, the second shorter if `padded`."""
    frames = num_frames(torch.tensor([NUM_SAMPLES, NUM_SAMPLES - 8_000 * padded]), model.config)
    masks = make_masks(
        frames.tolist(), [(0, 0), (0, 1)], MaskingConfig(), num_negatives=100, hidden_size=model.config.hidden_size
    )
    attention_mask = torch.arange(int(frames.max())) < frames[:, None] if padded else None
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        context, features = encode(
            model,
            torch.randn(2, NUM_SAMPLES),
            attention_mask=attention_mask,
            time_mask=masks.time_mask,
            feature_mask=None,
        )
    objective = compute_objective(
        model, context, features, positions=masks.positions, valid=masks.valid, negatives=masks.negatives
    )
    return objective.loss


def most_held(work: Callable[[], object]) -> int:
    """The most bytes that torch allocates at one time for some work on the CPU, beyond what was there."""
    gc.collect()  # else what an earlier measurement left may go meanwhile, and is counted as given back
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    assert profile.profiler is not None
    events = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most
