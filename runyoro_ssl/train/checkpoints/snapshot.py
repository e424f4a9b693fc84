"""The state of a run: all that a checkpoint keeps of it, and how it is put back, as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.evaluate.metrics import Totals
from runyoro_ssl.processes import gather_over_processes
from runyoro_ssl.redaction import redact
from runyoro_ssl.train.checkpoints.averages import by_saved_name, load_averages
from runyoro_ssl.train.checkpoints.format import (
    STATE,
    Snapshot,
    load_generators,
    load_optimizer,
    num_updates,
    other_checkpoint,
    take_sharded_snapshot,
    take_snapshot,
)
from runyoro_ssl.train.checkpoints.generators import generator_states, restore_generators
from runyoro_ssl.train.checkpoints.resume import Start, contents_of, settings_of_the_run
from runyoro_ssl.train.training_run import TrainingRun


def snapshot(run: TrainingRun, generators: Mapping[str, torch.Tensor]) -> Snapshot:
    """A snapshot of the run between two steps. Where the model is sharded, every process calls it."""
    scaler = run.accelerator.scaler
    optimizer = run.optimizer.optimizer
    state = {
        "step": run.step,
        "epoch": run.epoch,
        "total_steps": run.total_steps,
        "num_updates": num_updates(optimizer),
        "gumbel_temperature": run.model.quantizer.temperature,
        "num_averaged": run.average.num_updates if run.average else 0,
        "num_parts": run.stepper.num_parts,
        "scaler": scaler.state_dict() if scaler else None,
        "validations": run.watch.validations,
        "window": run.meter.window.to_json(),
        "health": run.watch.state_dict(),
        "concerns": run.watch.concerns(),
        "unreadable": run.unreadable.state_dict(),
        "plan": asdict(run.plan.settings),
        "dataset_sha256": run.contents[0],
        "beside_sha256": run.contents[1:],
        "heard_samples": run.heard_samples,
        "base_model": run.base_model,
        "base_revision": run.base_revision,
        "base_sha256": run.base_sha256,
        "config": settings_of_the_run(run.config),
        "hardware": run.config.hardware.model_dump(mode="json"),
        "machine": run.machine,
    }
    state = json.loads(json.dumps(redact(state)))
    averages = by_saved_name(run.average)
    if run.choice.way == "shards":
        is_main = run.accelerator.is_main_process
        return take_sharded_snapshot(run.model, optimizer, generators, state, averages, is_main=is_main)
    return take_snapshot(run.model, optimizer, generators, state, averages)


def every_generator(accelerator: Any) -> dict[str, torch.Tensor]:
    """The random states of all processes, by `<process>.<generator>`. Every process calls it."""
    every = gather_over_processes(accelerator, generator_states(accelerator.device))
    return {f"{process}.{name}": state for process, states in enumerate(every) for name, state in states.items()}


def restore(run: TrainingRun, start: Start) -> None:
    """Put a run where it starts, goes on, or goes back to: all but the weights, which its model was loaded with."""
    state = start.state
    if start.path is None:
        _to_the_beginning(run)
    else:
        _to_the_checkpoint(run, start.path, state)
    if contents_of(state) == run.contents:
        run.unreadable.load_state_dict(state["unreadable"])
        run.watch.restore(state["health"], state["validations"], went_back=start.went_back)
    else:  # what was measured, and heard, says nothing of the clips now
        run.watch.start_over()
        run.heard_samples = []
    run.watch.rollbacks = start.rollbacks
    run.stepper.rate_scale = run.watch.learning_rate_scale


def _to_the_beginning(run: TrainingRun) -> None:
    run.optimizer.optimizer.state.clear()
    if run.average is not None:
        run.average.restart()
    run.step, run.epoch, run.heard_samples = 0, 0.0, []
    run.meter.window = Totals()


def _to_the_checkpoint(run: TrainingRun, checkpoint: Path, state: Mapping[str, Any]) -> None:
    load_optimizer(checkpoint, run.model, run.optimizer.optimizer, num_updates=state["num_updates"])
    if run.average is not None:
        load_averages(checkpoint, run.average, num_updates=state.get("num_averaged", 0))
    if run.accelerator.scaler is not None and state["scaler"]:
        run.accelerator.scaler.load_state_dict(state["scaler"])
    mine = f"{run.accelerator.process_index}."
    generators = load_generators(checkpoint)
    states = {name.removeprefix(mine): value for name, value in generators.items() if name.startswith(mine)}
    if states:  # a process that the run did not have before has none
        restore_generators(states, run.accelerator.device)
    run.step, run.epoch = state["step"], state["epoch"]
    run.heard_samples = list(state.get("heard_samples", []))
    run.base_model, run.base_revision = _where_base_is(state, run.config.model.model_name_or_path)
    run.meter.window = _window_of(run, checkpoint, state)
    # Memory that ran short since then does not come back; and parts decide what is drawn.
    run.stepper.num_parts = max(run.stepper.num_parts, state["num_parts"])


def _where_base_is(state: Mapping[str, Any], given: str) -> tuple[str, str | None]:
    """The base model of a run, and its revision; a folder that was found from elsewhere, by its place now."""
    name = str(state["base_model"])
    is_found = Path(given).is_dir() and Path(given).parts[-len(Path(name).parts) :] == Path(name).parts
    return given if is_found else name, state.get("base_revision")


def _window_of(run: TrainingRun, checkpoint: Path, state: Mapping[str, Any]) -> Totals:
    """What was counted since the last log line. Raises CheckpointError where it is of another number of codes."""
    window, model = Totals.from_json(state["window"]), run.model.config
    codes = (model.num_codevector_groups, model.num_codevectors_per_group)
    if window.code_mass is not None and window.code_mass.shape != codes:
        raise CheckpointError(
            f"{checkpoint / STATE}: window.code_mass is of {tuple(window.code_mass.shape)}, the model's of {codes}; "
            f"{other_checkpoint(checkpoint)}"
        )
    return window
