"""Optimizer and schedules; every schedule is a pure function of the step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from runyoro_ssl.model.adapters import is_of_adapter
from runyoro_ssl.model.counts import FEATURE_ENCODER
from runyoro_ssl.train.eight_bit import build_eight_bit

if TYPE_CHECKING:
    from runyoro_ssl.config import TrainConfig  # the bench runs where there is no pydantic


LAYER = re.compile(r"wav2vec2\.encoder\.layers\.(\d+)\.")


def freeze(model: Any, config: TrainConfig) -> None:
    """Freeze what the settings keep as it came: the feature encoder, or all but that.

    Where the feature encoder learns alone, quantizer and projections are frozen, too: the Transformer, which is, goes
    with no others. The gradient comes through all of them.
    """
    if config.freeze_feature_encoder:
        model.freeze_feature_encoder()
    if config.train_only == "feature_encoder":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(FEATURE_ENCODER))


def build_optimizer(model: Any, config: TrainConfig, *, adapter_lr_scale: float = 1.0) -> torch.optim.Optimizer:
    """Build AdamW: feature encoder, adapters, layers learn at rates of their own; vectors (biases, norms) do not decay.

    Each parameter group carries `lr_scale`, its share of the scheduled rate. By layer: Clark et al., 2020, ELECTRA,
    arXiv 2003.10555, appendix B.
    """
    freeze(model, config)
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = config.feature_encoder_lr_scale if name.startswith(FEATURE_ENCODER) else 1.0
        scale = adapter_lr_scale if is_of_adapter(name) else scale
        scale *= config.layer_decay ** _layers_above(name, model.config)
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    chosen = [
        {"params": parameters, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
    }
    if config.optimizer == "adamw-8bit":
        return build_eight_bit(chosen, **settings)
    return torch.optim.AdamW(chosen, **settings, fused=True)


def _layers_above(name: str, config: Any) -> int:
    """How many layers of the Transformer are above a parameter: none above the last, quantizer and projections."""
    if layer := LAYER.match(name):
        return int(config.num_hidden_layers) - 1 - int(layer[1])
    is_last_norm = config.do_stable_layer_norm and name.startswith("wav2vec2.encoder.layer_norm.")
    return int(config.num_hidden_layers) if name.startswith("wav2vec2.") and not is_last_norm else 0


def warmup_steps(config: TrainConfig, total_steps: int) -> int:
    """Steps of warm-up: as set, else a tenth of the run."""
    return total_steps // 10 if config.warmup_steps is None else config.warmup_steps


def learning_rate(step: int, *, peak: float, warmup: int, total: int, is_constant: bool = False) -> float:
    """Rate of optimizer step `step` (the first is 0): linear from 0 to `peak`, then linear to 0 after the last.

    `is_constant`: after warm-up it stays at `peak`.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if is_constant:
        return peak
    return peak * max(0.0, (total - step) / max(1, total - warmup))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def gumbel_temperature(step: int, *, start: float, end: float, total: int) -> float:
    """Temperature of optimizer step `step`: geometric from `start` at the first to `end` at the last."""
    progress = step / max(1, total - 1)
    return float(start * (end / start) ** min(1.0, progress))
