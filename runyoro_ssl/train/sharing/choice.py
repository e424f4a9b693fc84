"""The way in which the processes of a run share its model is chosen here, the same in each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runyoro_ssl.errors import ConfigError
from runyoro_ssl.model.at_hand import free_memory
from runyoro_ssl.model.memory import predict_memory
from runyoro_ssl.page.amounts import size
from runyoro_ssl.processes import gather_over_processes
from runyoro_ssl.train.sharing.ways import Alone, Replicas, Shards, Sharing

if TYPE_CHECKING:
    from runyoro_ssl.config import HardwareConfig
    from runyoro_ssl.model.memory import BatchSettings

OTHER_ENGINES = {"ACCELERATE_USE_FSDP": "--use_fsdp", "ACCELERATE_USE_DEEPSPEED": "--use_deepspeed"}
"""What `accelerate launch` says by variables, and would set up behind this toolkit's back."""


@dataclass(frozen=True)
class Choice:
    """A way of sharing, and why."""

    way: Literal["alone", "replicas", "shards"]
    because: str = ""

    def words(self, num_processes: int) -> str:
        """What each process holds, for people."""
        if self.way == "alone":
            return "all of the model here"
        held = "all of the model in each process" if self.way == "replicas" else f"1/{num_processes} in each process"
        return f"{held} ({self.because})"

    def share(self, accelerator: Any, model: Any) -> Sharing:
        """Share a model that is on the CPU: from here on it is on its device, and every process calls this."""
        if self.way == "shards":
            return Shards(accelerator, model)
        model.to(accelerator.device)
        return Replicas(accelerator, model) if self.way == "replicas" else Alone(model)


def check_launch(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a launcher's engine, and numbers of processes with which all would wait for one that never comes.

    Raises:
        ConfigError: `accelerate launch` was asked for an engine; RANK is none of WORLD_SIZE; LOCAL_RANK is no number.
    """
    rank, number = environment.get("RANK", "0"), environment.get("WORLD_SIZE", "1")
    if not (rank.isdigit() and number.isdigit() and int(rank) < int(number)):
        raise ConfigError(
            f"RANK is {rank}, WORLD_SIZE {number}: processes are numbered from 0 to WORLD_SIZE - 1; torchrun sets "
            "both, and without it neither is to be set"
        )
    if not (local := environment.get("LOCAL_RANK", "0")).isdigit():
        raise ConfigError(
            f'LOCAL_RANK is "{local}", and no number; torchrun sets it, and without it, it is not to be set'
        )
    for variable, option in OTHER_ENGINES.items():
        if environment.get(variable, "false").lower() in ("true", "1"):
            raise ConfigError(
                f"accelerate launch {option} ({variable}) is not used here: leave it out; --set hardware.sharding=full "
                "shards the model, with --multi_gpu"
            )


def check_sharding(hardware: HardwareConfig, num_processes: int) -> None:
    """Refuse a number of processes and a sharding that cannot be.

    Raises:
        ConfigError: Several processes on MPS; sharding with one.
    """
    if hardware.device == "mps" and num_processes > 1:
        raise ConfigError(
            f"{num_processes} processes were launched, and a Mac has one GPU: launch one, without torchrun"
        )
    if hardware.sharding == "full" and num_processes == 1:
        raise ConfigError(
            "hardware.sharding is full, and there is one process: launch several, `torchrun --nproc-per-node 4 -m "
            "runyoro_ssl train …`, or leave it out"
        )


def cannot_join(error: Exception, environment: Mapping[str, str] = os.environ) -> str:
    """In a line why this process did not meet the others that a launcher speaks of."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    given = ", ".join(f"{name} {environment.get(name, 'not set')}" for name in names)
    why = str(error).strip().partition("\n")[0]
    return f"this process cannot join the others of its run ({given}): {why}; start all of them by torchrun"


def choose_way(hardware: HardwareConfig, accelerator: Any, model_config: Any, batches: BatchSettings) -> Choice:
    """Choose how the processes of a run share a model. Every process calls it.

    `auto` shards only what does not fit otherwise: replicas wait less for each other.

    Raises:
        ConfigError: What learns cannot be sharded, and `hardware.sharding` asks for it.
    """
    if accelerator.num_processes == 1:
        return Choice("alone")
    if whole := why_whole(batches):
        if hardware.sharding == "full":
            raise ConfigError(f"hardware.sharding is full, and {whole}: leave one of them out")
        return Choice("replicas", whole)
    if hardware.sharding == "full":
        return Choice("shards", "hardware.sharding")
    if hardware.sharding == "none":
        return Choice("replicas", "hardware.sharding")
    memory, free = predict_memory(model_config, batches), _free_for_each(accelerator)
    needed = memory.peak
    if accelerator.device.type == "cpu":  # where both are taken already
        needed -= memory.base + memory.weights
    free = min(gather_over_processes(accelerator, free))
    if needed <= free:
        return Choice("replicas", f"it fits: {size(needed)} of {size(free)} free")
    return Choice("shards", f"whole, it would take {size(needed)}, and {size(free)} is free")


def why_whole(batches: BatchSettings) -> str | None:
    """Why a way to train is never sharded."""
    if batches.adapters is not None:
        return "adapters are not sharded: what learns is small"
    return None if batches.optimizer == "adamw" else f"moments of {batches.optimizer} are not sharded"


def _free_for_each(accelerator: Any) -> int:
    """Bytes that this process may take of its device; processes of a machine share its CPU's memory."""
    free = free_memory(accelerator.device.type)
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if accelerator.device.type == "cpu" else free
