"""Matrix products as MPS computes them right, and how large a micro-batch may be there. Elsewhere they are torch's own.

What is wrong there, since when and on which chips: `FAULTS` of mps_faults.py.
"""

from __future__ import annotations

import math
from typing import Any

import torch

MOST_REDUCED = 32_766
"""Products that sum over more are silently wrong on M1 and M2 (pytorch#177116, #195163)."""
MOST_ROWS_WITH_BIAS = (1 << 16) - 1
"""Of a product with a bias (pytorch#189495; reported of a third dimension, which these have not)."""
MOST_CONVOLVED = 1 << 16
"""Of any dimension of a convolution (pytorch#152278)."""

MAX_CLIP_SEC = 20.48
"""A convolution of the feature encoder makes 3,200 rows a second: `MOST_CONVOLVED`. Of matrix products, as ours are, it
is not known."""


def most_batch_seconds(model_config: Any, sampling_rate: int) -> float:
    """How long a micro-batch may be: weight gradients of its layers sum over all its frames."""
    return float(MOST_REDUCED * math.prod(model_config.conv_stride) / sampling_rate)


def why_too_large(model_config: Any, *, longest: int, batch_samples: float, sampling_rate: int) -> str | None:
    """Why a run's micro-batches are too large for MPS, and what to set; None if they are not.

    longest: samples of its longest clip. batch_samples: the most of a micro-batch of more than one clip.
    """
    if longest > MAX_CLIP_SEC * sampling_rate:
        return (
            f"the longest clip has {longest / sampling_rate:.1f} s; MPS takes at most {MAX_CLIP_SEC} s: run "
            "`invoke prepare` with --max-duration-sec 15"
        )
    most_sec = most_batch_seconds(model_config, sampling_rate)
    seconds = max(longest, batch_samples) / sampling_rate
    if seconds > most_sec:
        return (
            f"a micro-batch may have {seconds:.0f} s; over {most_sec:.0f} s, {MOST_REDUCED:,} frames, gradients are "
            "silently wrong on M1 and M2 (docs/mps.md): lower hardware.batch_seconds, or --per-device-train-batch-size"
        )
    return None


def product_with_bias(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The product left (R, K) @ right (K, C) + bias (C), for any number of rows R."""
    if bias is None:
        return left @ right
    if left.device.type == "mps" and len(left) > MOST_ROWS_WITH_BIAS:
        return (left @ right).add_(bias)
    return torch.addmm(bias, left, right)


def transposed_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left.T @ right, for any number of rows R: (R, A), (R, B) -> (A, B). Parts are summed in fp32."""
    if left.device.type != "mps":
        return left.T @ right
    parts = zip(torch.split(left, MOST_REDUCED), torch.split(right, MOST_REDUCED), strict=True)
    return torch.stack([(without_gaps(some).T @ others).float() for some, others in parts]).sum(dim=0).to(left.dtype)


def without_gaps(rows: torch.Tensor) -> torch.Tensor:
    """The rows as they are; a copy on MPS, which has been wrong, silently, about operands with gaps."""
    return rows.contiguous() if rows.device.type == "mps" else rows
