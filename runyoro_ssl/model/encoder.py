"""The feature encoder as matrix products, equal to transformers' convolutions.

A strided convolution over channels-last frames needs neither transposes nor im2col. Seen as rows of `stride` frames,
output row r is input row r times the first `stride` taps, plus input row r + 1 times the taps that are left:

    k = s:          y[r] = x[s r .. s r + s) W
    s < k <= 2 s:   y[r] = x[s r .. s r + s) W[:s]  +  x[s (r + 1) .. s r + k) W[s:]

Clips are padded once, so that the rows of every layer divide evenly: at each layer the whole batch is one matrix, and
nothing is sliced or copied. The few last rows of a clip that reach over its end are never read by valid ones.

Norm and GELU are recomputed in the backward pass: of each layer only its convolution's output is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

from runyoro_ssl.model.mps import product_with_bias, transposed_product, without_gaps
from runyoro_ssl.model.norms import NormGelu, group_norm, layer_norm, no_norm


def encode_waveforms(feature_extractor: Any, waveforms: torch.Tensor) -> torch.Tensor:
    """Run a `Wav2Vec2FeatureEncoder`: float (B, T) -> (B, F, C), the transpose of its own output.

    Under autocast the products run in its dtype, as the convolutions would.
    """
    device = waveforms.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else waveforms.dtype
    num_rows = waveforms.shape[1]
    with torch.autocast(device, enabled=False):
        rows = _windows(feature_extractor, waveforms.to(dtype))
        norm, weight, bias = None, None, None
        for index, layer in enumerate(feature_extractor.conv_layers):
            conv, stride = layer.conv, layer.conv.stride[0]
            num_rows = (num_rows - conv.kernel_size[0]) // stride + 1
            kernel = conv.weight.to(dtype)
            if index == 0:  # over windows, its taps are channels
                kernel, stride = kernel.transpose(1, 2), 1
            kernel_bias = None if conv.bias is None else conv.bias.to(dtype)
            rows = _NormConv.apply(rows, weight, bias, kernel, kernel_bias, stride, norm)  # type: ignore[no-untyped-call]
            norm, weight, bias = _norm_after(layer, num_rows)
        return _Norm.apply(rows, weight, bias, norm)[:, :num_rows]  # type: ignore[no-untyped-call, no-any-return]


def _windows(feature_extractor: Any, waveforms: torch.Tensor) -> torch.Tensor:
    """What each output of the first convolution sees: (B, T) -> (B, R, kernel). R divides by all later strides."""
    first, *later = [layer.conv for layer in feature_extractor.conv_layers]
    kernel, stride = first.kernel_size[0], first.stride[0]
    divisor = math.prod(conv.stride[0] for conv in later)
    num_windows = math.ceil(waveforms.shape[1] / (stride * divisor)) * divisor
    padding = (num_windows - 1) * stride + kernel - waveforms.shape[1]
    return F.pad(waveforms, (0, padding)).unfold(1, kernel, stride).contiguous()


def _norm_after(layer: Any, num_rows: int) -> tuple[NormGelu, Any, Any]:
    """What follows a layer's convolution, and its parameters."""
    norm = getattr(layer, "layer_norm", None)  # transformers' name for either kind
    if norm is None:
        return no_norm(), None, None
    if isinstance(norm, torch.nn.GroupNorm):
        return group_norm(norm.eps, num_rows), norm.weight, norm.bias
    return layer_norm(norm.eps), norm.weight, norm.bias


class _Norm(torch.autograd.Function):
    """Norm and GELU: rows (B, R, C), weight (C), bias (C) -> (B, R, C)."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: Any, bias: Any, norm: NormGelu) -> torch.Tensor:
        ctx.save_for_backward(rows, weight, bias)
        ctx.norm = norm
        return norm.forward(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        _, *gradients = ctx.norm.backward(gradient, *ctx.saved_tensors)
        return *gradients, None


class _NormConv(torch.autograd.Function):
    """Norm and GELU, then convolution: rows (B, R, C), kernel (D, C, k), kernel_bias (D) -> (B, R / stride, D).

    `norm` None: no norm or GELU, and no gradient for the rows, which are windows of the waveform.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd.Function calls it so
        ctx: Any,
        rows: torch.Tensor,
        weight: Any,
        bias: Any,
        kernel: torch.Tensor,
        kernel_bias: Any,
        stride: int,
        norm: NormGelu | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(rows, weight, bias, kernel)
        ctx.stride, ctx.norm = stride, norm
        inputs = rows if norm is None else norm.forward(rows, weight, bias)
        (_, block, part), *rest = _products(inputs, kernel, stride)
        outputs = product_with_bias(part, block, kernel_bias)
        for shift, block, part in rest:
            outputs[:-shift].addmm_(without_gaps(part[shift:]), block)
        return outputs.view(len(rows), -1, len(kernel))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        rows, weight, bias, kernel = ctx.saved_tensors
        gradient = gradient.flatten(0, 1)
        inputs, of_norm = rows, (None, None, None)
        if ctx.norm is not None:
            of_inputs = torch.zeros_like(rows) if kernel.shape[2] < ctx.stride else torch.empty_like(rows)
            for shift, block, part in _products(of_inputs, kernel, ctx.stride):
                if shift:
                    part[shift:].add_(gradient[:-shift] @ block.T)
                else:
                    torch.mm(gradient, block.T, out=part)
            inputs, *of_norm = ctx.norm.backward(of_inputs, rows, weight, bias)
        of_blocks = [
            transposed_product(part[shift:], gradient[: len(gradient) - shift]).view(-1, rows.shape[2], len(kernel))
            for shift, block, part in _products(inputs, kernel, ctx.stride)
        ]
        of_kernel = torch.cat(of_blocks).permute(2, 1, 0)
        of_bias = gradient.sum(dim=0) if ctx.needs_input_grad[4] else None
        return *of_norm, of_kernel, of_bias, None, None


def _products(
    rows: torch.Tensor, kernel: torch.Tensor, stride: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """The products that make a convolution: output[r] = sum of part[r + shift] @ block over (shift, block, part).

    rows (B, R, C), kernel (D, C, k). A part is a view of the rows, (B R / stride, w C), and a block (w C, D) holds w
    taps of the kernel.
    """
    taps = kernel.shape[2]
    matrix = rows.view(-1, stride * rows.shape[2])
    for shift, first in enumerate(range(0, taps, stride)):
        block = kernel[:, :, first : first + stride].permute(2, 1, 0).reshape(-1, len(kernel))
        yield shift, block, matrix[:, : len(block)]
