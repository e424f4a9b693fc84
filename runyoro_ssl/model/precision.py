"""The precision in which a device computes is decided here and nowhere else."""

from __future__ import annotations

import time
from typing import Any

import torch

from runyoro_ssl.errors import ConfigError

FP32 = "--set hardware.precision=fp32"
SMALL, TRIES, TOO_SLOW = 128, 3, 8
"""A square product by which units for bf16 are told, how often it is tried, and so many times as long as in fp32 it
takes where there are none: emulated it takes 250 times as long, tens of milliseconds."""


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
        raise ConfigError(f"fp16 needs a GPU; use {instead_of_fp16(device)}")


def is_emulated(device: str, precision: str) -> bool:
    """Whether a device computes bf16 without units for it: on such a CPU products take a hundred times longer.

    Where torch does not tell (its builds without mkldnn, as for Macs), a product is timed that is small enough to end
    soon either way.
    """
    if precision != "bf16" or device == "mps":
        return False
    if device == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if supported is None:
        return _seconds_of_small_product(torch.bfloat16) > TOO_SLOW * _seconds_of_small_product(torch.float32)
    return not supported()


def _seconds_of_small_product(dtype: torch.dtype) -> float:
    """The least of a few tries on the CPU."""
    square, taken = torch.ones(SMALL, SMALL, dtype=dtype), []
    for _ in range(TRIES):
        started = time.perf_counter()
        torch.mm(square, square)
        taken.append(time.perf_counter() - started)
    return min(taken)


def instead_of_fp16(device: str) -> str:
    """The options to try where fp16 does not hold the numbers: bf16 only where the device has units for it."""
    return FP32 if is_emulated(device, "bf16") else f"--bf16, or {FP32}"


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
