"""Steps of real runs hold what is predicted, in three ways to train; `python tests/memory_runs.py` tries 21 runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from conftest import build_tiny_model
from memory_runs import CHECKPOINTING, EIGHT, LORA, WITHIN
from runyoro_ssl.config import Config
from runyoro_ssl.model.allocator import allow
from runyoro_ssl.train import setup
from runyoro_ssl.train.loop import batches_of_steps
from support.small_model import most_held
from support.trainer import build

SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "intermediate_size": 512,
    "conv_dim": (48,) * 7,
    "layerdrop": 0.0,
}


@pytest.mark.parametrize("way", [(), (LORA,), (EIGHT, CHECKPOINTING)], ids=["plain", "lora", "8-bit, checkpointing"])
def test_steps_hold_what_is_predicted(
    train_config: Callable[..., Config], tmp_path: Path, way: tuple[str, ...]
) -> None:
    """Weights and moments to the byte; what the second step takes and gives back within 15 %."""
    config = train_config(
        "run",
        f"model.model_name_or_path={build_tiny_model(tmp_path / 'model', **SHAPE)}",
        "hardware.per_device_train_batch_size=6",
        "hardware.gradient_accumulation_steps=1",
        *way,
    )
    with mock.patch.object(setup, "allow", wraps=allow) as asked:
        built = build(config)
    memory = asked.call_args.args[0]
    (first, second), batches = list(built.plan.updates(0))[:2], batches_of_steps(built)
    built.stepper.take(first, next(batches), built.meter)
    mine = next(batches)
    batches.close()
    taken = most_held(lambda: built.stepper.take(second, mine, built.meter))
    assert sum(parameter.nbytes for parameter in built.model.parameters()) == memory.weights
    kept = [
        value for state in built.optimizer.optimizer.state.values() for name, value in state.items() if is_kept(name)
    ]
    assert sum(tensor.nbytes for tensor in kept) == memory.adamw
    assert taken == pytest.approx(memory.passing - memory.batches, rel=WITHIN)


def is_kept(name: str) -> bool:
    """Whether a part of the optimizer's state is one weight's own: not its count of steps, nor bitsandbytes' map."""
    return name != "step" and not name.startswith("qmap")
