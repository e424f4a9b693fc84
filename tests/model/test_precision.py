"""Precision: what is cast, and what that changes."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conftest import TINY, transformers
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.model import precision
from runyoro_ssl.model.at_hand import bf16_gain
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


@pytest.mark.parametrize("channels", [2, 4, 8, 14, 16, 64])
def test_positions_in_bf16_are_those_in_fp32(channels: int) -> None:
    """However narrow the groups of the positional convolution: some CPUs get narrow ones wrong in bf16, silently."""
    sizes = {"hidden_size": 4 * channels, "num_conv_pos_embedding_groups": 4, "num_conv_pos_embeddings": 16}
    config = transformers.Wav2Vec2Config(**{**TINY, **sizes, "num_attention_heads": 2, "num_hidden_layers": 0})
    torch.manual_seed(0)
    encoder = transformers.Wav2Vec2ForPreTraining(config).eval().wav2vec2.encoder
    hidden = torch.randn(2, 299, 4 * channels)
    exact = run_context_network(encoder, hidden, None)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run_context_network(encoder, hidden, None)
    assert 0 <= (rounded - exact).norm() / exact.norm() < 0.01


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: from now on, torch says so of units for bf16 (None: nothing), where a product takes so many times."""

    def pretend(*, says: bool | None, times: float = 1.0) -> None:
        ops = SimpleNamespace() if says is None else SimpleNamespace(_is_mkldnn_bf16_supported=lambda: says)
        monkeypatch.setattr(torch.ops, "mkldnn", ops)
        seconds = {torch.float32: 1e-4, torch.bfloat16: times * 1e-4}
        monkeypatch.setattr(precision, "_seconds_of_small_product", seconds.__getitem__)

    return pretend


def test_units_for_bf16_are_told_by_a_small_product_where_torch_does_not_tell(cpu: Any) -> None:
    """A build without mkldnn: a large product is only timed where a small one was not far slower than in fp32."""
    config = transformers.Wav2Vec2Config(hidden_size=8, intermediate_size=8, conv_dim=(8,) * 7)

    def no_large_product() -> float:
        raise AssertionError("a large product is timed")

    for says, times, emulated in [(True, 300, False), (False, 1, True), (None, 300, True), (None, 1.5, False)]:
        cpu(says=says, times=times)
        assert precision.is_emulated("cpu", "bf16") == emulated
        assert not precision.is_emulated("cpu", "fp32")
        if emulated:
            assert bf16_gain(config, no_large_product) == 0.0


def test_small_product_ends_soon() -> None:
    """It is timed for real, in either type."""
    assert all(0 < precision._seconds_of_small_product(dtype) < 1 for dtype in (torch.float32, torch.bfloat16))


@pytest.mark.parametrize("emulated", [True, False])
def test_bf16_is_advised_in_place_of_fp16_only_where_there_are_units_for_it(
    monkeypatch: pytest.MonkeyPatch, cpu: Any, *, emulated: bool
) -> None:
    """A T4, a V100 and most laptops' CPUs have none: there fp32 alone is right."""
    cpu(says=not emulated)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or not emulated
    )
    expected = precision.FP32 if emulated else f"--bf16, or {precision.FP32}"
    assert [precision.instead_of_fp16(device) for device in ("cuda", "cpu")] == [expected] * 2
    assert precision.instead_of_fp16("mps") == f"--bf16, or {precision.FP32}"
    with pytest.raises(ConfigError) as refused:
        precision.check_precision("cpu", "fp16")
    assert str(refused.value) == f"fp16 needs a GPU; use {expected}"
