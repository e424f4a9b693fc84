"""Norm and GELU between two convolutions of the feature encoder: forward, and recomputed with the gradient.

Rows are channels-last, (B, R, C); norms are computed in fp32 whatever their dtype. On CUDA they are
fused by torch.compile.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]
"""The output again, and the gradients of rows, weight and bias."""


@dataclass(frozen=True)
class NormGelu:
    """Norm and GELU between convolutions: `forward(rows, weight, bias)`, `backward(gradient, rows, weight, bias)`."""

    forward: Callable[[torch.Tensor, Any, Any], torch.Tensor]
    backward: Callable[[torch.Tensor, torch.Tensor, Any, Any], Gradients]


def layer_norm(eps: float) -> NormGelu:
    """Norm over channels, as in XLS-R and wav2vec2-large-lv60."""
    return NormGelu(
        functools.partial(_call, _layer_norm_forward, eps), functools.partial(_call, _layer_norm_backward, eps)
    )


def group_norm(eps: float, num_rows: int) -> NormGelu:
    """Norm of each channel over the clip's first `num_rows` rows, as in the first layer of wav2vec2-base."""
    return NormGelu(
        functools.partial(_call, _group_norm_forward, (eps, num_rows)),
        functools.partial(_call, _group_norm_backward, (eps, num_rows)),
    )


def no_norm() -> NormGelu:
    """GELU alone, as in the other layers of wav2vec2-base."""
    return NormGelu(lambda rows, _weight, _bias: F.gelu(rows), _gelu_backward)


def _layer_norm_forward(eps: float, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.gelu(F.layer_norm(rows.float(), weight.shape, weight, bias, eps)).to(rows.dtype)


def _layer_norm_backward(
    eps: float, gradient: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> Gradients:
    aten, shape = torch.ops.aten, list(weight.shape)
    normed, mean, rstd = aten.native_layer_norm(rows.float(), shape, weight, bias, eps)
    gradient = aten.gelu_backward(gradient.float(), normed)
    of_rows, of_weight, of_bias = aten.native_layer_norm_backward(
        gradient, rows.float(), shape, mean, rstd, weight, bias, [True, True, True]
    )
    del gradient  # as large as the rows: the backward pass of the encoder often is where memory peaks
    return aten.gelu_(normed).to(rows.dtype), of_rows.to(rows.dtype), of_weight, of_bias


def _group_norm_forward(
    setting: tuple[float, int], rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    centred, rstd = _standardise(*setting, rows)
    return F.gelu(centred * rstd * weight + bias).to(rows.dtype)


def _group_norm_backward(
    setting: tuple[float, int], gradient: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> Gradients:
    eps, num_rows = setting
    centred, rstd = _standardise(eps, num_rows, rows)
    standard = centred.mul_(rstd)  # in place, here and below: memory often peaks in the backward pass of the encoder
    normed = standard * weight + bias
    gradient = torch.ops.aten.gelu_backward(gradient.float(), normed)
    outputs = torch.ops.aten.gelu_(normed).to(rows.dtype)
    share = (gradient * standard).sum(dim=1, keepdim=True)
    mean = gradient.sum(dim=1, keepdim=True)
    of_rows = gradient.sub_(mean / num_rows).sub_(standard.mul_(share).div_(num_rows)).mul_(weight).mul_(rstd)
    of_rows[:, num_rows:].zero_()  # rows past the clip took no part in its mean
    return outputs, of_rows.to(rows.dtype), share.sum(dim=(0, 1)), mean.sum(dim=(0, 1))


def _standardise(eps: float, num_rows: int, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows less their clip's mean, and its reciprocal standard deviation; each channel by itself."""
    clip = rows[:, :num_rows].float()
    variance, mean = torch.var_mean(clip, dim=1, correction=0, keepdim=True)
    return rows.float() - mean, (variance + eps).rsqrt()


def _gelu_backward(gradient: torch.Tensor, rows: torch.Tensor, _weight: None, _bias: None) -> Gradients:
    return F.gelu(rows), torch.ops.aten.gelu_backward(gradient, rows), None, None


def _call(function: Callable[..., Any], *args: Any) -> Any:
    """Call, fused where the rows are on CUDA."""
    on_cuda = any(isinstance(arg, torch.Tensor) and arg.is_cuda for arg in args)
    return fused(function)(*args) if on_cuda else function(*args)


@functools.cache
def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function, as `compiled` does; give it as it is where Triton is missing."""
    from torch.utils._triton import has_triton

    return compiled(function) if has_triton() else function


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function, for tensors of any sizes but the last; where torch cannot compile it, it runs as it is.

    The last is the channels: known beforehand, a norm over them reads its rows once.
    """
    made = torch.compile(function, dynamic=True)

    def run(*args: Any) -> Any:
        # Detached: compiled code is kept for each setting of requires_grad, which means nothing here.
        detached = [arg.detach() if isinstance(arg, torch.Tensor) else arg for arg in args]
        for arg in detached:
            if isinstance(arg, torch.Tensor):
                torch._dynamo.mark_static(arg, arg.ndim - 1)  # noqa: SLF001
        with torch._dynamo.config.patch(suppress_errors=True):  # noqa: SLF001 - its documented way back to eager
            return made(*detached)

    return run
