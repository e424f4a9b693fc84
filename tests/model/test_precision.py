"""Precision: what is cast, and what that changes."""

from __future__ import annotations

import copy
from typing import Any

import torch

from conftest import TINY, transformers
from runyoro_ssl.model import precision
from runyoro_ssl.model.context import run_context_network
from support.step_trace import AutocastOfCuda


def test_one_cast_of_attentions_input_changes_rounding_alone() -> None:
    """Forward not a bit; gradients by what bf16 rounds: they are close to fp32's as they were without it."""
    config = transformers.Wav2Vec2Config(**{**TINY, "layerdrop": 0.0, "hidden_dropout": 0.0, "attention_dropout": 0.0})
    torch.manual_seed(0)
    plain = transformers.Wav2Vec2ForPreTraining(config).eval()
    once = copy.deepcopy(plain)
    precision.cast_once(once)
    hidden = torch.randn(3, 50, config.hidden_size)

    def run(model: Any, *, autocast: bool) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = hidden.clone().requires_grad_()
        with AutocastOfCuda(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = run_context_network(model.wav2vec2.encoder, inputs, None).float()
        output.square().sum().backward()  # type: ignore[no-untyped-call]  # torch's own
        assert inputs.grad is not None
        return output.detach(), inputs.grad

    exact, exact_gradient = run(once, autocast=False)
    assert torch.equal(exact, run(plain, autocast=False)[0])
    (seen, gradient), (theirs, their_gradient) = run(once, autocast=True), run(plain, autocast=True)
    assert torch.equal(seen, theirs)
    assert not torch.equal(seen, exact)
    off, their_off = ((one - exact_gradient).norm() / exact_gradient.norm() for one in (gradient, their_gradient))
    assert 0 < off < 1.2 * their_off
