"""Things that several processes of a run do together, over gloo, as `torchrun` starts them; each gives its result."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from runyoro_ssl.batches import forward
from runyoro_ssl.batches.plan import Update
from runyoro_ssl.config import Config
from runyoro_ssl.train import step
from runyoro_ssl.train.checkpoints.shards import part_on_host, write_parts
from runyoro_ssl.train.step import Stepper
from runyoro_ssl.train.training_run import TrainingRun
from support.environments import environments
from support.forked import FORKED
from support.trainer import build, run

COLLECTIVE = "gloo:"
"""What the names of the profiler's events begin with that wait for other processes."""


def in_processes(num_processes: int, act: Callable[..., Any], *args: Any) -> list[Any]:
    """Do something in so many processes; what each of them gives. `act`: a function of this module."""
    pipes, started = [], []
    for environment in environments(num_processes):
        receiver, sender = FORKED.Pipe(duplex=False)
        process = FORKED.Process(target=_act, args=(sender, environment, act, args))
        process.start()
        sender.close()
        pipes.append(receiver)
        started.append(process)
    results = [pipe.recv() for pipe in pipes]  # EOFError where one died
    for process in started:
        process.join(20)
        process.kill()
    return results


def _act(sender: Connection, environment: dict[str, str], act: Callable[..., Any], args: Any) -> None:
    os.environ |= environment
    torch.set_num_threads(1)
    sender.send(act(*args))


def poisoned_run(config: Config, steps: tuple[int, ...], of_process: int) -> int:
    """Train, with losses in one process that are no numbers at some steps. Returns how often it went back."""
    at = [0]
    take, real = Stepper.take, forward.run_objective

    def noted(stepper: Stepper, update: Update, *rest: Any) -> Any:
        at[0] = update.step if stepper.rate_scale == 1 else 0
        return take(stepper, update, *rest)

    def poisoned(accelerator: Any, model: Any, batch: Any) -> Any:
        made = real(accelerator, model, batch)
        bad = model.training and at[0] in steps and accelerator.process_index == of_process
        return replace(made, loss=made.loss * math.nan) if bad else made

    with mock.patch.object(Stepper, "take", noted), mock.patch.object(step, "run_objective", poisoned):
        run(config)
    return at[0]


def short_of_memory(config: Config) -> tuple[list[int], dict[str, Any]]:
    """Take two updates; in process 1 two clips are too many. Returns the parts it came to, and weights (numpy)."""
    whole, real = build(config), forward.run_objective
    told: list[int] = []
    whole.stepper.report = told.append

    def short(accelerator: Any, model: Any, batch: Any) -> Any:
        if accelerator.process_index == 1 and len(batch.waveforms) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(accelerator, model, batch)

    with mock.patch.object(step, "run_objective", short):
        take_updates(whole, 2)
    return told, {name: parameter.detach().numpy() for name, parameter in whole.model.named_parameters()}


def take_updates(whole: TrainingRun, number: int) -> None:
    """Take the first updates of a run."""
    share = slice(whole.accelerator.process_index, None, whole.accelerator.num_processes)
    for update in whole.plan.updates():
        if update.step > number:
            return
        batches = [whole.train_batches[plan] for plan in update.micro_batches[share]]
        whole.stepper.take(update, batches, whole.meter)


def trace_updates(*configs: Config) -> list[dict[str, Any]]:
    """Take three updates with each configuration, the last under torch's profiler.

    Returns of each its `collectives` and `gradients` (events of autograd), each (name, when it began), and the bytes
    that this process has of weights and moments.
    """
    return [_trace(config) for config in configs]


def _trace(config: Config) -> dict[str, Any]:
    whole = build(config)
    take, found = whole.stepper.take, {}

    def profiled(update: Update, *rest: Any) -> Any:
        if update.step < 3:
            return take(update, *rest)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            numbers = take(update, *rest)
        events = [(event.name, event.time_range.start) for event in profiler.events()]
        found["collectives"] = [event for event in events if event[0].startswith(COLLECTIVE)]
        found["gradients"] = [event for event in events if "evaluate_function" in event[0]]
        return numbers

    with mock.patch.object(whole.stepper, "take", profiled):
        take_updates(whole, 3)
    states = whole.optimizer.optimizer.state.values()
    moments = [value for state in states for name, value in state.items() if name != "step"]
    return {**found, "weights": _local_bytes(whole.model.parameters()), "moments": _local_bytes(moments)}


def _local_bytes(tensors: Any) -> int:
    return sum((tensor.to_local() if hasattr(tensor, "to_local") else tensor).nbytes for tensor in tensors)


def parts_of_a_device(folder: Path) -> str:
    """Copy a part of a tensor that counts as on a device to the host, and write it. Returns where the copy was."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    tensor = distribute_tensor(torch.arange(12.0).reshape(6, 2), mesh, [Shard(0)])
    with mock.patch.object(mesh, "_device_type", "meta"):
        part = part_on_host(tensor)
        write_parts(folder, {"exp_avg.weight": part}, None)
    local = part.to_local()
    is_copy = local.untyped_storage().data_ptr() != tensor.to_local().untyped_storage().data_ptr()
    return f"{local.device}, {'copied' if is_copy else 'shared'}"
