"""Going back: the run takes its last healthy checkpoint, or the model as it came, and half the learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runyoro_ssl.evaluate.metrics import Totals
from runyoro_ssl.train.checkpoints.folder import checkpoint_of, find_healthy, set_aside_later, step_of
from runyoro_ssl.train.checkpoints.format import load_state
from runyoro_ssl.train.checkpoints.snapshot import restore
from runyoro_ssl.train.setup import load_weights
from runyoro_ssl.train.step import sum_over_processes

if TYPE_CHECKING:
    from runyoro_ssl.train.setup import RunSetup


def go_back(run: RunSetup) -> str:
    """Restore the run in place, in every process. Returns what was done, in words."""
    output_dir = run.config.train.output_dir
    step = _healthy_step(run)
    checkpoint = checkpoint_of(output_dir, step) if step else None
    name = str(checkpoint) if checkpoint else run.base_model
    run.model.load_state_dict(load_weights(run.config, name).state_dict())
    watch, num_parts = run.watch.state_dict(), run.stepper.num_parts
    state = load_state(checkpoint) if checkpoint else {}
    if checkpoint:
        restore(run, checkpoint, state)
    else:
        _start_over(run)
    run.watch.load_state_dict(watch)
    run.watch.went_back(state.get("health"))
    run.stepper.num_parts = num_parts
    run.stepper.rate_scale = run.watch.learning_rate_scale
    if run.accelerator.is_main_process:
        set_aside_later(output_dir, step)
    run.accelerator.wait_for_everyone()
    to = checkpoint.name if checkpoint else "the model as it came"
    rate = run.config.train.learning_rate * run.stepper.rate_scale
    return f"went back to {to}; the learning rate's peak is now {rate:.3g}"


def _healthy_step(run: RunSetup) -> int:
    """The step to go back to, chosen by the main process; 0 for the start."""
    found: Path | None = None
    if run.accelerator.is_main_process:
        found = find_healthy(run.config.train.output_dir)
    return sum_over_processes(run.accelerator, step_of(found) if found else 0)


def _start_over(run: RunSetup) -> None:
    run.optimizer.optimizer.state.clear()
    run.step, run.epoch = 0, 0.0
    run.meter.window = Totals()
    run.validations = {"first": run.validations["first"], "last": run.validations["first"]}
