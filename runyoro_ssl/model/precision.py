"""The precision in which a device computes is decided here and nowhere else."""

from __future__ import annotations

from typing import Any

import torch

from runyoro_ssl.errors import ConfigError


def set_precision(device: str, precision: str) -> str:
    """Set the device up for fp32, bf16 or fp16, and return Accelerate's name for it.

    fp32 products use TF32 on CUDA. bf16 and fp16 are autocast: weights, norms and the loss stay in fp32; fp16 comes
    with loss scaling.

    Raises:
        ConfigError: fp16 on a CPU.
    """
    check_precision(device, precision)
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    return "no" if precision == "fp32" else precision


def check_precision(device: str, precision: str) -> None:
    """Raise ConfigError for a precision in which a device does not train."""
    if precision == "fp16" and device == "cpu":
        raise ConfigError("fp16 needs a GPU; use --bf16, or --set hardware.precision=fp32")


def is_emulated(device: str, precision: str) -> bool:
    """Whether a device computes bf16 without units for it: on such a CPU products take a hundred times longer."""
    if device != "cpu" or precision != "bf16":
        return False
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and not supported()


def cast_once(model: Any) -> None:
    """Have autocast cast the input of each attention once, not once for its queries, keys and values each.

    Of the backward pass that saves as many casts, and two sums in fp32 for each layer.
    """
    for layer in model.wav2vec2.encoder.layers:
        layer.attention.register_forward_pre_hook(_cast)


def _cast(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    hidden, *others = inputs
    device = hidden.device.type
    if not torch.is_autocast_enabled(device):
        return inputs
    return hidden.to(torch.get_autocast_dtype(device)), *others
