"""An idle micro-batch reaches every parameter, and teaches none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conftest import TINY, transformers
from runyoro_ssl.batches.forward import ObjectiveNetwork, run_objective
from runyoro_ssl.batches.idle import NUM_FRAMES, idle_batch
from runyoro_ssl.model.forward import num_frames
from runyoro_ssl.model.layer_drop import give_zeros, run_for_nothing

ACCELERATOR: Any = SimpleNamespace(autocast=lambda: torch.autocast("cpu", enabled=False))


@pytest.mark.parametrize("left_out", [give_zeros, run_for_nothing])
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_every_gradient_is_zero(norm: str, left_out: Any) -> None:
    """Also of layers that are left out: none is missing, for others would wait for it."""
    shape = {**TINY, "feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer", "layerdrop": 1.0}
    model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**shape)).train()
    batch = idle_batch(model.config)
    assert num_frames(torch.tensor(batch.waveforms.shape), model.config)[1] == NUM_FRAMES
    objective = run_objective(ACCELERATOR, ObjectiveNetwork(ACCELERATOR, model, left_out), batch)
    assert objective.loss == 0
    objective.loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_layer_that_is_run_for_nothing_changes_nothing() -> None:
    """Neither the objective, nor what is drawn after it."""
    model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**{**TINY, "layerdrop": 0.5})).train()
    found = []
    for network in (model, *(ObjectiveNetwork(ACCELERATOR, model, way) for way in (give_zeros, run_for_nothing))):
        torch.manual_seed(1)
        batch = idle_batch(model.config)
        batch.masks.valid[:] = True
        model.zero_grad()
        loss = run_objective(ACCELERATOR, network, batch).loss
        loss.backward()  # type: ignore[no-untyped-call]
        norms = [float(parameter.grad.norm()) for parameter in model.parameters() if parameter.grad is not None]
        found.append((float(loss.detach()), float(torch.rand(())), sum(norms)))
    assert found[0] == found[1]
    assert found[0] == pytest.approx(found[2], rel=1e-6)
