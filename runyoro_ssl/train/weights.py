"""The weights of a run, from where it starts: a model as it came, a checkpoint's; or a base model and its adapters."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file

from runyoro_ssl.config import Config, FittedConfig
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.model.adapters import Adapters, adapt, check_peft, load_trained_weights, trained_weights
from runyoro_ssl.model.load import load_weights
from runyoro_ssl.model.merging import base_fingerprint, hold_frozen
from runyoro_ssl.train.checkpoints.format import ADAPTERS
from runyoro_ssl.train.checkpoints.resume import Start
from runyoro_ssl.train.eight_bit import check_eight_bit
from runyoro_ssl.train.sources import read_contents
from runyoro_ssl.train.training_run import TrainingRun

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_way_to_train(config: Config) -> None:
    """Refuse a way to train that needs what is not here, before anything is fetched or loaded.

    After `join`: what is tried is tried on the device of this process, not by all on the first one.

    Raises:
        ConfigError: Names the extra to install, or what to give instead.
        DatasetError: There is no prepared dataset: for that, no gigabyte of a model is fetched.
    """
    if config.adapter.kind == "lora":
        check_peft()
    if config.train.optimizer == "adamw-8bit":
        check_eight_bit(config.hardware.device)
    read_contents(config.train)


def model_name(config: Config, start: Start) -> str:
    """The folder or hub id that a run's model is loaded from: with adapters always the base model."""
    if start.path is None or config.adapter.kind == "lora":
        return config.model.model_name_or_path
    return str(start.path)


def load_run_model(config: FittedConfig, start: Start) -> tuple[Any, str | None]:
    """The model of a run on the host, as it starts; with adapters, also the fingerprint of what is frozen.

    Raises:
        CheckpointError: As `load_model`; or the adapters of the checkpoint are those of another base model.
        ConfigError: As `adapt`.
    """
    model = load_weights(config, model_name(config, start), config.model.revision)
    adapters = Adapters.of(config)
    if adapters is None:
        return model, None
    adapt(model, adapters, seed=config.train.seed)
    fingerprint = base_fingerprint(model)
    if start.path is not None:
        _check_base(fingerprint, config, start)
        load_trained_weights(model, load_file(start.path / ADAPTERS))
    return model, fingerprint


def put_on_device(model: Any, config: FittedConfig, device: torch.device) -> None:
    """Move a model to its device; on CUDA, with what adapters leave frozen held as autocast would cast it.

    That is cast on the host: the device need not hold all of it in fp32 first.
    """
    half = HALVES.get(config.hardware.precision)
    if config.adapter.kind == "lora" and config.hardware.device == "cuda" and half:
        hold_frozen(model, half)
    model.to(device)


def restore_weights(run: TrainingRun, start: Start) -> None:
    """Give the model of a run, in place, the weights of a start it goes back to. Frozen ones are as they were."""
    adapters = Adapters.of(run.config)
    if adapters is not None and start.path is not None:
        load_trained_weights(run.model, load_file(start.path / ADAPTERS))
        return
    model = load_weights(run.config, run.base_model if start.path is None else str(start.path), run.base_revision)
    if adapters is None:
        run.sharing.load(run.model, model.state_dict())
    else:
        load_trained_weights(run.model, trained_weights(adapt(model, adapters, seed=run.config.train.seed)))


def _check_base(fingerprint: str, config: Config, start: Start) -> None:
    state = start.state
    if fingerprint != state["base_sha256"]:
        raise CheckpointError(
            f'{start.path} has adapters of another base model than "{config.model.model_name_or_path}" now is '
            f'(the run began with "{state["base_model"]}", revision {state.get("base_revision") or "none"}): give that '
            f"by --model-name-or-path; or start a new run from it: --model-name-or-path {start.path}, --output-dir NEW"
        )
