"""Optimizer groups and schedules."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import PLAIN
from runyoro_ssl.config import ModelConfig, TrainConfig
from runyoro_ssl.model.load import load_model
from runyoro_ssl.train.optim import (
    build_optimizer,
    gumbel_temperature,
    learning_rate,
    set_learning_rate,
    warmup_steps,
)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    """Linear up to the peak, linear down; never zero at a step that is taken."""
    rates = [learning_rate(step, peak=1.0, warmup=10, total=100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1.0
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert rates[-1] == pytest.approx(1 / 90)


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
