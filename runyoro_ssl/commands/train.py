"""`train`: a base model and a dataset to an adapted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runyoro_ssl import logs
from runyoro_ssl.commands.ending import end
from runyoro_ssl.commands.given import resolve
from runyoro_ssl.processes import SIGNAL_EXIT

if TYPE_CHECKING:
    from runyoro_ssl.train.run import TrainResult


def train(**given: Any) -> TrainResult:
    """Adapt the base model to the prepared dataset.

    Args:
        **given: The options of the task, by name (`runyoro-ssl train --help`), and any setting of `train`, `model`,
            `masking`, `hardware`, `health` and `plugins`; `profile`, `config`, `set`.

    Returns:
        How the run ended, and the validations of its first, best and last model.

    Raises:
        RunyoroError: Something that you can mend; a run that had started keeps its checkpoints.
    """
    from runyoro_ssl.plugin.manager import load_plugins

    config = resolve("train", given)
    plugins = load_plugins(config)
    # All of it now: in days, when the run has ended, another version may be installed.
    from runyoro_ssl.publish.card import write_model_card
    from runyoro_ssl.train.run import train as run_training

    return run_training(config, plugins, on_final=write_model_card)


def show(result: TrainResult) -> None:
    """Print held-out speech before and after; of a run that was stopped, how to go on. May end with its status."""
    ending = result.ending
    saved = ", after saving" if result.step > result.start_step else "; there was nothing new to save"
    where = f"step {result.step} of {result.total_steps}{saved}; go on with --resume-from-checkpoint last"
    if ending.signal is not None:
        end(f"stopped by {ending.signal.name} at {where}", status=SIGNAL_EXIT + ending.signal)
    if not result.is_main:
        return
    if ending.kind == "time" and result.step == result.start_step:
        end(f"--stop-after left no time for a single step, at {where}, with more time")
    if ending.kind == "time":
        logs.get_logger().info("time_is_up", stopped_at=where)
        return
    columns = ["measure", "first", f"best, step {result.best.get('step', result.step)}", "last"]
    sides = (result.first, result.best or result.last, result.last)
    rows = [
        [name.removeprefix("eval/"), *(f"{side[name]:.4f}" for side in sides)] for name in result.last if name != "step"
    ]
    logs.print_table(f"{result.output_dir}: held-out speech", columns, rows)
