"""What becomes of a layer that layer drop leaves out: nothing; or what several processes need of it.

The processes of a run draw for themselves, as each micro-batch has its own draws, and leave out different layers. Those
that sum gradients wait for each parameter's; those that gather a layer's weights from each other must all ask for them.
"""

from __future__ import annotations

from typing import Any

import torch


def pass_by(_layer: Any, hidden: torch.Tensor, _keys: torch.Tensor | None) -> torch.Tensor:
    """Leave the layer alone."""
    return hidden


def give_zeros(layer: Any, hidden: torch.Tensor, _keys: torch.Tensor | None) -> torch.Tensor:
    """Leave the layer alone, but have the backward pass give its parameters gradients of zeros."""
    trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    return _GiveZeros.apply(hidden, *trained)  # type: ignore[no-untyped-call, no-any-return]


def run_for_nothing(layer: Any, hidden: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
    """Run the layer, discard what it gives, with gradients of zeros, and put back what it has drawn."""
    with torch.random.fork_rng([hidden.device] if hidden.device.type == "cuda" else []):
        discarded = layer(hidden, attention_mask=keys)
    never = torch.zeros((), dtype=torch.bool, device=hidden.device)
    return torch.where(never, discarded.to(hidden.dtype), hidden)


class _GiveZeros(torch.autograd.Function):
    """The identity of hidden (B, F, H), which also depends on parameters."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*parameters)
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return gradient, *map(torch.zeros_like, ctx.saved_tensors)
