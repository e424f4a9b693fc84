"""The way of sharing is the same in each process, and fits; what cannot be is refused in a line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conftest import TINY, transformers
from runyoro_ssl.config import HardwareConfig
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.model.memory import BatchSettings, predict_memory
from runyoro_ssl.train.sharing import agreement, choice
from runyoro_ssl.train.sharing.agreement import check_agreement, digest
from runyoro_ssl.train.sharing.choice import cannot_join, check_launch, check_sharding, choose_way

FOUR: Any = SimpleNamespace(num_processes=4, device=torch.device("cpu"))
ONE: Any = SimpleNamespace(num_processes=1, device=torch.device("cpu"))
BATCHES = BatchSettings(30.0)


@pytest.fixture
def alone_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process finds what this one finds."""
    for module in (choice, agreement):
        monkeypatch.setattr(module, "gather_over_processes", lambda _, value: [value] * 4)


@pytest.mark.usefixtures("alone_together")
@pytest.mark.parametrize(
    ("sharding", "free_of_whole", "way"),
    [("auto", 1.1, "replicas"), ("auto", 0.9, "shards"), ("full", 9, "shards"), ("none", 0.1, "replicas")],
)
def test_auto_shards_what_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, sharding: Any, free_of_whole: float, way: str
) -> None:
    """And only that; four processes of a machine divide what its CPU has free."""
    config = transformers.Wav2Vec2Config(**TINY)
    memory = predict_memory(config, BATCHES)
    free = int((memory.peak - memory.base - memory.weights) * free_of_whole)  # weights and libraries are there already
    monkeypatch.setattr(choice, "free_memory", lambda _device: 4 * free)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    chosen = choose_way(HardwareConfig(sharding=sharding), FOUR, config, BATCHES)
    assert chosen.way == way
    assert chosen.because
    assert choose_way(HardwareConfig(sharding="auto"), ONE, config, BATCHES).way == "alone"


@pytest.mark.parametrize(
    ("hardware", "num_processes", "why"),
    [
        (HardwareConfig(sharding="full"), 1, r"hardware.sharding is full, and there is one process: .*torchrun"),
        (HardwareConfig(device="mps"), 2, r"2 processes were launched, and a Mac has one GPU"),
    ],
)
def test_sharding_that_cannot_be(hardware: HardwareConfig, num_processes: int, why: str) -> None:
    """One line, with what to do."""
    with pytest.raises(ConfigError, match=why):
        check_sharding(hardware, num_processes)
    check_sharding(HardwareConfig(sharding="full"), 2)


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, r"--use_fsdp .*hardware.sharding=full"),
        ({"ACCELERATE_USE_DEEPSPEED": "1"}, r"--use_deepspeed .*hardware.sharding=full"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, r"RANK is 2, WORLD_SIZE 2"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, r"RANK is one"),
        ({"LOCAL_RANK": "x"}, r'LOCAL_RANK is "x"'),
        ({"LOCAL_RANK": ""}, r'LOCAL_RANK is ""'),
    ],
)
def test_launch_that_cannot_be(environment: dict[str, str], why: str) -> None:
    """Another engine behind our back; a process without a place, for which all would wait."""
    with pytest.raises(ConfigError, match=why):
        check_launch(environment)
    check_launch({"RANK": "1", "WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "false"})


def test_process_that_cannot_join_says_what_it_was_told() -> None:
    """The first line of torch's reason, and the variables."""
    said = cannot_join(RuntimeError("no route\nC++ stack"), {"RANK": "1", "MASTER_ADDR": "node1"})
    assert "RANK 1" in said
    assert "MASTER_ADDR node1, MASTER_PORT not set): no route; start all" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [("prepared dataset", "0" * 12), ("model", "0" * 12), ("train.seed", 7), ("version of runyoro_ssl", "0.0")],
)
def test_process_that_differs_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """Other clips or weights on another machine would be trained on without a word."""

    def gather(_accelerator: Any, mine: dict[str, Any]) -> list[dict[str, Any]]:
        assert name in mine
        return [mine, mine, {**mine, name: value, "host": "node2"}]

    monkeypatch.setattr(agreement, "gather_over_processes", gather)
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=rf"process 2 \(on node2\) and process 0 .*differ in {name}.*: {value}, and"):
        check_agreement(FOUR, {"train.seed": 42}, "f" * 64, model)


def test_digest_tells_weights_apart() -> None:
    """By a value, a shape, a name."""
    one = {"a": torch.zeros(4, 4), "b": torch.ones(3)}
    others = [
        {**one, "b": torch.tensor([1.0, 1.0, 2.0])},
        {**one, "a": torch.zeros(16)},
        {"c": one["a"], "b": one["b"]},
    ]
    assert len({digest(weights) for weights in (one, *others)}) == 4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_shards_take_less_and_replicas_hold_their_gradients(precision: Any) -> None:
    """A part of each state, and of the layers two at a time; DDP's buckets are there before the backward pass."""
    config = transformers.Wav2Vec2Config(hidden_size=768, num_hidden_layers=24, intermediate_size=3072)
    alone = predict_memory(config, BatchSettings(15.0, accumulates=False, precision=precision))
    replicas = predict_memory(config, BatchSettings(15.0, accumulates=False, precision=precision).shared(4))
    shards = predict_memory(config, BatchSettings(15.0, precision=precision).shared(4, sharded=True))
    assert replicas.peak == alone.peak + alone.gradients
    assert [4 * shards.weights, 4 * shards.gradients, 4 * shards.adamw] == [alone.weights, alone.gradients, alone.adamw]
    assert shards.peak < replicas.peak - 8 * alone.num_parameters
