"""Adapters: on the way of the forward pass, with the right gradients, and equal to the plain model once merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import build_tiny_model, transformers
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.model.adapters import NAME, Adapters, adapt, adapted_modules, is_of_adapter
from runyoro_ssl.model.counts import count_trained, count_weights, state_bytes
from runyoro_ssl.model.merging import base_fingerprint, hold_frozen, plain_name, plain_weights
from support.small_model import NO_DROPOUT, build, compute_loss

STILL: dict[str, Any] = {**NO_DROPOUT, "num_hidden_layers": 2}
SHORT = Adapters(rank=4, alpha=6.0)
Q_PROJ = "wav2vec2.encoder.layers.1.attention.q_proj"


def adapted(adapters: Adapters = SHORT, *, checkpointing: bool = False, drawn: bool = True, **overrides: Any) -> Any:
    """A random model with adapters; `drawn`: whose second matrix is not zero, as after some steps."""
    model = adapt(build(checkpointing, **{**STILL, **overrides}), adapters, seed=3)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if drawn and ".lora_B." in name:
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def merged(model: Any) -> Any:
    """The plain model that it stands for."""
    own, new = plain_weights(model)
    plain = build(checkpointing=False, **STILL)
    plain.load_state_dict(own | new)
    return plain


def loss_of(model: Any, precision: str = "fp32", *, padded: bool = True) -> torch.Tensor:
    """The loss on two fixed clips with fixed draws."""
    torch.manual_seed(0)
    return compute_loss(model, padded=padded, precision=precision)


def gradients(model: Any, **options: Any) -> dict[str, torch.Tensor]:
    """The gradient of everything that learns."""
    model.zero_grad()
    loss_of(model, **options).backward()  # type: ignore[no-untyped-call]
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest, relative to the largest value."""
    return ((one - other).abs().max() / other.abs().max()).item()


def test_first_the_model_is_the_one_that_came_and_each_adapter_counts() -> None:
    """The second matrix begins at zero; any one that is not changes the loss, so that its way is really taken."""
    plain, model = build(checkpointing=False, **STILL), adapted(drawn=False)
    came = loss_of(plain)
    assert torch.equal(loss_of(model), came)
    assert len(adapted_modules(model)) == 2 * 6
    for module in list(adapted_modules(model).values())[:6]:
        side = module.lora_B[NAME].weight
        side.data.normal_(generator=torch.Generator().manual_seed(1))
        assert not torch.equal(loss_of(model), came)
        side.data.zero_()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_merged_model_gives_what_the_adapted_gives(precision: str) -> None:
    """To rounding; and its names and shapes are those of a plain model."""
    model = adapted()
    tolerance = 1e-6 if precision == "fp32" else 3e-3
    torch.testing.assert_close(loss_of(merged(model), precision), loss_of(model, precision), rtol=tolerance, atol=0.0)
    with torch.no_grad():
        assert abs(float(loss_of(merged(adapted(drawn=False)), precision) - loss_of(model, precision))) > 10 * tolerance


def test_gradients_are_those_of_the_product() -> None:
    """Of A and B, against the gradient of the whole matrix in the merged model: no forward pass of an adapter in it."""
    model = adapted()
    ours, whole = gradients(model), gradients(merged(model))
    for name, module in adapted_modules(model).items():
        scale, of_matrix = module.scaling[NAME], whole[f"{name}.weight"]
        down, up = module.lora_A[NAME].weight, module.lora_B[NAME].weight
        for side, expected in (("lora_A", scale * up.T @ of_matrix), ("lora_B", scale * of_matrix @ down.T)):
            assert difference(ours[f"{name}.{side}.{NAME}.weight"], expected) < 1e-5
    besides = [name for name in ours if not is_of_adapter(name)]
    assert besides
    for name in besides:
        assert difference(ours[name], whole[plain_name(name)]) < 1e-5


def test_checkpointing_gives_the_same_gradients() -> None:
    """Though no input of the first layer needs one; and the feature encoder has none."""
    ours, again = gradients(adapted()), gradients(adapted(checkpointing=True))
    assert ours.keys() == again.keys()
    assert all(torch.equal(ours[name], again[name]) for name in ours)
    assert not any("feature_extractor" in name or "base_layer" in name for name in ours)


def test_compiled_layer_takes_the_adapters_way() -> None:
    """torch.compile sees through peft's layers, in one graph; here it is not made machine code."""
    model = adapted(num_hidden_layers=1)
    model.wav2vec2.encoder.layers[0].compile(dynamic=True, backend="eager", fullgraph=True)
    ours, compiled = gradients(adapted(num_hidden_layers=1), padded=False), gradients(model, padded=False)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for name, gradient in ours.items():
        assert difference(compiled[name], gradient) < 1e-5
    torch._dynamo.reset()


def test_frozen_matrices_held_in_half_give_the_same_numbers() -> None:
    """Autocast rounds them anyway. What is merged, and known by its fingerprint, is what came."""
    model, half = adapted(), adapted()
    hold_frozen(half, torch.bfloat16)
    assert half.get_submodule(Q_PROJ).base_layer.weight.dtype == torch.bfloat16
    assert torch.equal(loss_of(half, "bf16"), loss_of(model, "bf16"))
    (own, new), (expected_own, expected_new) = plain_weights(half), plain_weights(model)
    assert all(torch.equal((own | new)[name], tensor) for name, tensor in (expected_own | expected_new).items())
    assert base_fingerprint(half) == base_fingerprint(model)


def test_fingerprint_is_of_what_is_frozen() -> None:
    """A bit of a frozen weight makes another; what learned does not."""
    model = adapted()
    came = base_fingerprint(model)
    assert base_fingerprint(adapted(drawn=False)) == came
    model.get_submodule(Q_PROJ).base_layer.weight.data[0, 0] += 1e-6
    assert base_fingerprint(model) != came


@pytest.mark.parametrize(
    "adapters", [Adapters(), Adapters(4, targets=("q_proj", "v_proj"), also=()), Adapters(8, also=("norms",))]
)
def test_counts_are_the_models(adapters: Adapters) -> None:
    """Nothing is allocated for them; moments in 8 bits are counted by tensor."""
    model = adapted(adapters)
    plain, sizes = count_trained(model)
    counts = count_weights(model.config, adapters)
    assert (counts.parameters, sorted(counts.trained)) == (plain, sorted(sizes))
    assert counts.of_adapters == sum(p.numel() for name, p in model.named_parameters() if is_of_adapter(name))
    assert state_bytes([4095, 4096], "adamw-8bit") == 8 * 4095 + 2 * 4096 + 2 * 4 * 16


def test_share_of_xls_r_that_learns() -> None:
    """About 2 % are adapters, at the rank that is taken where none is given."""
    from runyoro_ssl.bench.sizes import SIZES

    for size, share in {"xls-r-300m": 0.022, "xls-r-1b": 0.018}.items():
        counts = count_weights(transformers.Wav2Vec2Config(**SIZES[size]), Adapters())
        assert counts.of_adapters / counts.parameters == pytest.approx(share, abs=0.001)


@pytest.mark.parametrize(
    ("adapters", "complaint"),
    [
        (Adapters(targets=("q_prj",)), r'"q_prj" \(did you mean "q_proj"\?\).*they have: k_proj'),
        (Adapters(rank=128), "adapter.rank is 128, and q_proj of this model is only 128 wide"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(adapters: Adapters, complaint: str) -> None:
    """By name: a matrix that the model lacks, a rank that saves nothing."""
    with pytest.raises(ConfigError, match=complaint):
        adapted(adapters)


def test_adapters_without_peft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line names the extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else object())
    model = transformers.Wav2Vec2ForPreTraining.from_pretrained(build_tiny_model(tmp_path))
    with pytest.raises(ConfigError, match=r"peft, which is not installed: pip install -e '\.\[adapters\]'"):
        adapt(model, SHORT, seed=0)
