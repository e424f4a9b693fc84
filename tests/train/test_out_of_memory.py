"""Want of memory in one line: what is advised is in force, is not done yet, and can be had there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from runyoro_ssl.config import Config, FittedConfig, FittedHardware
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.train.fitting import LEAST
from runyoro_ssl.train.forecast import forecast
from runyoro_ssl.train.out_of_memory import to_begin, to_fit, to_go_on
from runyoro_ssl.train.run import train

MakeConfig = Callable[..., Config]
SECONDS, CLIPS, LAYERS = "hardware.batch_seconds (now", "--per-device-train-batch-size (now 4)", "--gradient-check"
EIGHT, LORA, SHORTER, SHARDED = "train.optimizer=adamw-8bit", "--adapters lora", "shorter clips", "sharding=full"
ALL = (SECONDS, CLIPS, LAYERS, EIGHT, LORA, SHORTER, SHARDED)


def fitted(hardware: dict[str, Any], **sections: Any) -> FittedConfig:
    """A run on a GPU with such hardware."""
    config = Config.model_validate(sections)
    usual = {**LEAST, "device": "cuda", "batch_seconds": 30.0, "plan_seconds": 60.0}
    return FittedConfig.of(config, FittedHardware(**{**dict(config.hardware), **usual, **hardware}))


@pytest.mark.parametrize(
    ("config", "steps", "states"),
    [
        (fitted({}), {SECONDS, LAYERS}, {EIGHT, LORA}),
        (fitted({"batch_seconds": 10.0}), {LAYERS}, {EIGHT, LORA}),
        (fitted({"per_device_train_batch_size": 4, "batch_seconds": 40.0}), {CLIPS, LAYERS}, {EIGHT, LORA}),
        (fitted({"per_device_train_batch_size": 1, "gradient_checkpointing": True}), set(), {EIGHT, LORA}),
        (fitted({"gradient_checkpointing": True}), {SECONDS}, {EIGHT, LORA}),
        (fitted({"device": "mps"}), {SECONDS, LAYERS}, {LORA}),
        (fitted({"sharding": "full"}), {SECONDS, LAYERS}, set()),
        (fitted({}, adapter={"kind": "lora"}), {SECONDS, LAYERS}, {EIGHT}),
        (fitted({}, adapter={"kind": "lora"}, train={"optimizer": "adamw-8bit"}), {SECONDS, LAYERS}, set()),
    ],
)
def test_advice_follows_what_is_set(config: FittedConfig, steps: set[str], states: set[str]) -> None:
    """The size of a micro-batch by the setting that decides it; a run goes on only with what leaves it the same."""

    def named(text: str) -> set[str]:
        return {way for way in ALL if way in text}

    here, _, again = to_go_on(config, 10.0).rpartition("in a new run, ") if steps else ("", "", to_go_on(config, 10.0))
    assert (named(here), named(again)) == (steps, {*states, SHORTER})
    assert ("--resume-from-checkpoint last" in here) == bool(steps)
    assert named(to_fit(config, 10.0)) == {*steps, *states, SHORTER}
    shards = {SHARDED} if states == {EIGHT, LORA} else set()
    assert named(to_begin(config)) == {*states, *shards}


@pytest.mark.parametrize("begin", [train, forecast])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_model_that_does_not_fit_is_one_line(
    train_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, begin: Callable[..., Any], error: Exception
) -> None:
    """Memory that ends while the run is built, on the way to the device for one, is told as in its steps."""

    def exhausted(*_args: Any) -> None:
        raise error

    monkeypatch.setattr("runyoro_ssl.train.setup.put_on_device", exhausted)
    config = train_config("run")
    with pytest.raises(
        TrainingError, match=r"out of memory on cpu: the model does not fit; .*--adapters lora.*smaller"
    ):
        begin(config, load_plugins(config))
