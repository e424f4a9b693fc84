"""The feature encoder as matrix products, against transformers' own convolutions."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from conftest import TINY, transformers
from runyoro_ssl.model import norms
from runyoro_ssl.model.encoder import encode_waveforms
from support.reference import gradients, relative_difference

GROUP_NORM = {"feat_extract_norm": "group", "conv_bias": False}
SHAPES: dict[str, dict[str, Any]] = {
    "layer norm": {},
    "group norm": GROUP_NORM,
    "kernels of more than two strides": {"conv_kernel": (7, 5, 4, 3, 3, 2, 1), "conv_stride": (3, 2, 1, 2, 1, 2, 1)},
    "strides wider than kernels": {"conv_kernel": (4, 2, 1, 2, 2, 2, 2), "conv_stride": (5, 3, 2, 2, 2, 2, 2)},
}


def feature_extractor(**overrides: Any) -> Any:
    """A seeded random feature encoder."""
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**{**TINY, **overrides})
    return transformers.Wav2Vec2ForPreTraining(config).wav2vec2.feature_extractor.train()


def run(encoder: Any, outputs: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Outputs, and the gradient of a fixed random function of them."""
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0))
    torch.autograd.backward((outputs.float() * weights).sum())
    found = gradients(encoder)
    encoder.zero_grad()
    return outputs.detach(), found


@pytest.mark.parametrize("num_samples", [1200, 16_000, 33_333])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_equals_the_convolutions(shape: dict[str, Any], num_samples: int) -> None:
    """Features and the whole gradient, for any kernels and strides, and lengths that no stride divides."""
    encoder = feature_extractor(**shape)
    waveforms = torch.randn(3, num_samples, generator=torch.Generator().manual_seed(1))
    theirs, their_gradients = run(encoder, encoder(waveforms.clone()).transpose(1, 2))
    ours, our_gradients = run(encoder, encode_waveforms(encoder, waveforms))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert relative_difference(our_gradients, their_gradients) < 1e-5


@pytest.mark.parametrize("shape", [{}, GROUP_NORM], ids=["layer norm", "group norm"])
def test_bf16_is_near_fp32(shape: dict[str, Any]) -> None:
    """Under autocast the products run in bf16 and the weights' gradients stay fp32."""
    encoder = feature_extractor(**shape)
    waveforms = torch.randn(2, 8000, generator=torch.Generator().manual_seed(1))
    exact, _ = run(encoder, encode_waveforms(encoder, waveforms))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = encode_waveforms(encoder, waveforms)
    assert outputs.dtype is torch.bfloat16
    rounded, found = run(encoder, outputs)
    assert (rounded - exact).norm() / exact.norm() < 0.03
    assert len(found) == sum(1 for _ in encoder.parameters())
    assert all(gradient.dtype is torch.float32 and gradient.isfinite().all() for gradient in found.values())


def test_a_layer_keeps_one_tensor() -> None:
    """What stays for the backward pass: windows of the waveform, and each convolution's output, nothing else."""
    encoder = feature_extractor()
    parameters = {parameter.data_ptr() for parameter in encoder.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encode_waveforms(encoder, torch.randn(2, 64_000))
    rows = [64_000 // 5]
    for stride in (2, 2, 2, 2, 2, 2):
        rows.append(rows[-1] // stride)
    kernels = sum(parameter.numel() for parameter in encoder.parameters() if parameter.ndim == 3)
    assert sum(kept.values()) <= 2 * (10 * rows[0] + 16 * sum(rows)) + kernels


def test_frozen_encoder_keeps_nothing() -> None:
    """--set train.freeze_feature_encoder=true: no gradient, and nothing kept for one."""
    encoder = feature_extractor()
    encoder._freeze_parameters()
    assert not encode_waveforms(encoder, torch.randn(2, 8000)).requires_grad


@pytest.mark.parametrize(
    ("function", "setting"),
    [
        pytest.param(norms._layer_norm_forward, 1e-5, marks=pytest.mark.long),
        (norms._layer_norm_backward, 1e-5),
        pytest.param(norms._group_norm_forward, (1e-5, 50), marks=pytest.mark.long),
        (norms._group_norm_backward, (1e-5, 50)),
    ],
)
def test_compiled_norms_are_the_same_norms(frames: Counter[str], function: Any, setting: Any) -> None:
    """What runs on CUDA, compiled for the CPU: equal to what runs elsewhere; compiled once for any number of rows."""
    generator = torch.Generator().manual_seed(0)
    compiled = norms.compiled(function)
    for num_rows in (64, 128):
        rows, gradient = torch.randn(2, 2, num_rows, 16, generator=generator)
        weight, bias = torch.randn(2, 16, generator=generator).requires_grad_(num_rows == 64)
        arguments = [*([gradient] if "backward" in function.__name__ else []), rows, weight, bias]
        found, expected = compiled(setting, *arguments), function(setting, *arguments)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert frames == {"total": 1, "ok": 1}  # else it compared the function with itself: errors lead back to eager


def test_channels_are_known_to_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm over channels whose number is known reads its rows once; the numbers of clips and rows stay open."""
    shapes: list[torch.Size] = []

    def backend(graph: Any, _inputs: list[Any]) -> Any:
        given = [node.meta["example_value"] for node in graph.graph.find_nodes(op="placeholder")]
        shapes.extend(each.shape for each in given if isinstance(each, torch.Tensor))
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    compiled = norms.compiled(norms._layer_norm_forward)
    compiled(1e-5, torch.randn(2, 64, 16), torch.randn(16), torch.randn(16))
    rows = next(shape for shape in shapes if len(shape) == 3)
    assert [isinstance(size, int) for size in rows] == [False, False, True]


@pytest.fixture
def _nothing_fused() -> Iterator[None]:
    """What was found of Triton is asked for again, here and in later tests."""
    norms.fused.cache_clear()
    yield
    norms.fused.cache_clear()


@pytest.mark.usefixtures("_nothing_fused")
@pytest.mark.parametrize("has_triton", [True, False])
def test_norms_are_compiled_where_triton_is(monkeypatch: pytest.MonkeyPatch, *, has_triton: bool) -> None:
    """torch.compile needs Triton on CUDA; without it nothing is compiled."""
    asked: list[Any] = []
    # Before torch.compile imports anything: what is imported now would keep the answer.
    monkeypatch.setattr(norms, "compiled", asked.append)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: has_triton)
    function = norms._layer_norm_forward
    assert norms.fused(function) is (None if has_triton else function)
    assert asked == [function] * has_triton
