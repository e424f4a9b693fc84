"""Mixtures of models, and which of many models is best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import build_tiny_model, transformers
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.candidates import best
from runyoro_ssl.evaluate.mixtures import average, interpolation, mixed
from runyoro_ssl.evaluate.record import ADAPTED, BASE, BY_LOSS, BY_OTHERS, KeepableModel, ModelMeasure


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
    for other, said in ((wide, "other weights"), (deep, "other weights"), (tmp_path, "cannot read the model")):
        with pytest.raises(EvaluationError, match=said), mixed(interpolation(one, other, 0.5)):
            pass


KEYS = (
    *("fit.below_guessing", "fit.hard_perplexity", "geometry.effective_rank", "geometry.davies_bouldin"),
    "units.stability",
)
SIDES = ((0.4, 100.0, 55.0, 2.4, 0.45), (0.5, 92.0, 61.0, 2.1, 0.51))
"""Of the base and the adapted model."""
MEASURES = [
    ModelMeasure(key, key, "fit", "", "higher", {BASE: SIDES[0][place], ADAPTED: SIDES[1][place]})
    for place, key in enumerate(KEYS)
]


def _candidate(name: str, *values: float) -> KeepableModel:
    return KeepableModel(name, "checkpoint", None, dict(zip(KEYS, values, strict=True)))


def test_the_best_by_loss_and_by_the_rest_may_differ() -> None:
    """The lowest loss may be of a collapse, which is never the best by the rest."""
    candidates = [
        _candidate("early", 0.5, 90, 60, 2.2, 0.50),
        _candidate("middle", 0.7, 95, 66, 2.0, 0.55),
        _candidate("collapsed", 1.0, 8, 90, 1.0, 0.99),
    ]
    assert best(candidates, MEASURES) == {BY_LOSS: "collapsed", BY_OTHERS: "middle"}
    assert best([], MEASURES) == {}


def test_the_base_may_be_the_best() -> None:
    """Of candidates that are worse in everything, none is to be kept."""
    worse = _candidate("mixture", 0.1, 90, 20, 3.0, 0.2)
    assert best([worse], MEASURES)[BY_OTHERS] == ADAPTED
    assert best([worse], [replace(one, values={BASE: one.values[BASE]}) for one in MEASURES])[BY_OTHERS] == BASE
