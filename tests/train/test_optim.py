"""Optimizer groups and schedules."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import PLAIN, build_tiny_model
from runyoro_ssl.config import ModelConfig, TrainConfig
from runyoro_ssl.model.adapters import Adapters, adapt
from runyoro_ssl.model.load import load_model
from runyoro_ssl.train.optim import (
    build_optimizer,
    gumbel_temperature,
    learning_rate,
    set_learning_rate,
    warmup_steps,
)
from support.reference import rates_downwards


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    """Linear up to the peak, linear down; never zero at a step that is taken."""
    rates = [learning_rate(step, peak=1.0, warmup=10, total=100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1.0
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert rates[-1] == pytest.approx(1 / 90)


def test_learning_rate_may_stay_at_its_peak() -> None:
    """The same warm-up, and the peak from then on."""
    falling, constant = (
        [learning_rate(step, peak=2.0, warmup=10, total=100, is_constant=kept) for step in range(100)]
        for kept in (False, True)
    )
    assert constant[:11] == falling[:11]
    assert constant[10:] == [2.0] * 90


def test_warmup_is_a_tenth_unless_given() -> None:
    """500 warm-up steps would be most of a short run."""
    assert warmup_steps(TrainConfig(), 300) == 30
    assert warmup_steps(TrainConfig(warmup_steps=7), 300) == 7


def test_temperature_reaches_its_end_at_the_last_step() -> None:
    """Geometric: equal ratios between steps."""
    values = [gumbel_temperature(step, start=2.0, end=0.5, total=5) for step in range(5)]
    assert values[0] == 2.0
    assert values[-1] == pytest.approx(0.5)
    assert values[1] / values[0] == pytest.approx(values[3] / values[2])


def test_feature_encoder_has_its_own_rate_and_vectors_do_not_decay(tiny_model: Path) -> None:
    """Every trained parameter is in one group; biases and norms do not decay; the CNN learns at a tenth."""
    model = load_model(ModelConfig(model_name_or_path=str(tiny_model)), PLAIN)
    optimizer = build_optimizer(model, TrainConfig(weight_decay=0.3))
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    set_learning_rate(optimizer, 1e-3)
    encoder = {id(parameter) for parameter in model.wav2vec2.feature_extractor.parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(1e-4 if id(parameter) in encoder else 1e-3)
            assert group["weight_decay"] == (0.3 if parameter.ndim > 1 else 0.0)


def test_frozen_feature_encoder_is_not_trained(tiny_model: Path) -> None:
    """freeze_feature_encoder takes the CNN out of the optimizer."""
    model = load_model(ModelConfig(model_name_or_path=str(tiny_model)), PLAIN)
    optimizer = build_optimizer(model, TrainConfig(freeze_feature_encoder=True))
    grouped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert not grouped & {id(parameter) for parameter in model.wav2vec2.feature_extractor.parameters()}


@pytest.mark.parametrize("stable", [True, False], ids=["norm at the top", "norm at the bottom"])
@pytest.mark.parametrize("adapters", [None, Adapters(rank=4)], ids=["all", "lora"])
def test_layers_learn_the_less_the_lower_they_are(tmp_path: Path, *, stable: bool, adapters: Adapters | None) -> None:
    """As the reference, which walks down the network; whatever else has a share of the rate keeps it."""
    shape = {"num_hidden_layers": 3, "do_stable_layer_norm": stable}
    path = build_tiny_model(tmp_path / "model", **shape, feat_extract_norm="layer" if stable else "group")
    model = load_model(ModelConfig(model_name_or_path=str(path)), PLAIN)
    if adapters is not None:
        adapt(model, adapters, seed=0)
    optimizer = build_optimizer(model, TrainConfig(layer_decay=0.5), adapter_lr_scale=10.0)
    set_learning_rate(optimizer, 1e-3)
    found = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    expected = rates_downwards(model, 1e-3, decay=0.5, encoder_scale=0.1, adapter_scale=10.0)
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name: found[id(parameter)] for name, parameter in named.items()} == pytest.approx(
        {name: expected[name] for name in named}
    )
    assert len(set(found.values())) >= 3


def test_feature_encoder_learns_alone(tiny_model: Path) -> None:
    """Nothing else is in the optimizer, or has a gradient."""
    model = load_model(ModelConfig(model_name_or_path=str(tiny_model)), PLAIN)
    optimizer = build_optimizer(model, TrainConfig(train_only="feature_encoder"))
    grouped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert grouped == {id(parameter) for parameter in model.wav2vec2.feature_extractor.parameters()}
    assert grouped == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
