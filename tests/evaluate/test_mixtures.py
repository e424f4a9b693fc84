"""Mixtures of models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import build_tiny_model, transformers
from runyoro_ssl.errors import RunyoroError
from runyoro_ssl.evaluate.mixtures import average, interpolation, mixed


def test_a_mixture_is_a_weighted_sum_and_a_plain_model(tmp_path: Path) -> None:
    """At both ends it is one of the two; the mean of two lies halfway. It is gone after use."""
    one = build_tiny_model(tmp_path / "one")
    other = build_tiny_model(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    from safetensors.torch import save_file

    save_file({name: tensor + 1 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    for share in (0.0, 0.25, 1.0):
        with mixed(interpolation(one, other, share)) as folder:
            found = load_file(folder / "model.safetensors")
            assert all(torch.allclose(found[name], weights[name] + share, atol=1e-6) for name in weights)
            transformers.Wav2Vec2ForPreTraining.from_pretrained(folder)
    assert not folder.exists()
    with mixed(average([one, other, other])) as folder:
        name = "project_q.bias"
        assert torch.allclose(load_file(folder / "model.safetensors")[name], weights[name] + 2 / 3, atol=1e-6)


def test_models_that_do_not_mix(tmp_path: Path) -> None:
    """Of other shapes, with other weights, or without any: a line."""
    one = build_tiny_model(tmp_path / "one")
    wide = build_tiny_model(tmp_path / "wide", intermediate_size=128)
    deep = build_tiny_model(tmp_path / "deep", num_hidden_layers=3)
    for other, said in ((wide, "other weights"), (deep, "other weights"), (tmp_path, "cannot read config.json")):
        with pytest.raises(RunyoroError, match=said), mixed(interpolation(one, other, 0.5)):
            pass
