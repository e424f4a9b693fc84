"""The training loop: build, then run."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import TextColumn

from runyoro_ssl.errors import TrainingError
from runyoro_ssl.hookspecs import Run
from runyoro_ssl.logs import get_logger, print_table, progress, redact
from runyoro_ssl.train.batches import load_batches
from runyoro_ssl.train.card import write_model_card
from runyoro_ssl.train.checkpoint import explain_failed_write, prune_checkpoints, save_checkpoint, set_aside_later
from runyoro_ssl.train.loggers import Loggers, open_loggers
from runyoro_ssl.train.metrics import Meter, Stopwatch
from runyoro_ssl.train.model import save_pretrained
from runyoro_ssl.train.setup import RunSetup, build_run, describe_run, fixed_settings, try_first_batch, write_run_files
from runyoro_ssl.train.signals import StopSignal
from runyoro_ssl.train.step import is_out_of_memory, sum_over_processes
from runyoro_ssl.train.validation import validate

if TYPE_CHECKING:
    from runyoro_ssl.config import Config, HardwareConfig
    from runyoro_ssl.plugins import Plugins

log = get_logger()

MIN_LOSS_SCALE = 2.0**-10
"""fp16: 26 overflows in a row from the scale it starts with."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended, and by which signal, if one ended it.

    `first` is the validation of the model as it came, `last` the latest one.
    """

    output_dir: Path
    step: int
    total_steps: int
    stopped_by: signal.Signals | None
    first: dict[str, float]
    last: dict[str, float]
    is_main: bool


def train(config: Config, plugins: Plugins) -> TrainResult:
    """Adapt the model of the configuration to its dataset.

    Raises:
        RunyoroError: Something the user can mend; a run that had started keeps its checkpoints.
    """
    run = build_run(config, plugins)
    main = run.accelerator.is_main_process
    try_first_batch(run)
    if main:
        set_aside_later(config.train.output_dir, run.start_step)
        write_run_files(run)
        print_table("Run", ["what", "value"], describe_run(run))
        log.info(run.mask_summary.line())
    with ExitStack() as stack:
        stack.enter_context(explain_out_of_memory(config.hardware))
        stop = stack.enter_context(StopSignal())
        loggers = stack.enter_context(open_loggers(plugins.loggers() if main else [], _describe(run)))
        if run.first_validation is None:
            run.first_validation = run.last_validation = _validate(run, loggers, step=0, epoch=0.0)
        step, stopped_by = run_steps(run, loggers, stop)
        first, last = run.first_validation, run.last_validation or {}
        loggers.status = "stopped" if stopped_by else "finished"
        if not stopped_by and main:
            with explain_failed_write(config.train.output_dir):
                save_pretrained(run.model, run.extractor, config.train.output_dir)
                write_model_card(config, run, first, last)
    run.accelerator.end_training()
    return TrainResult(config.train.output_dir, step, run.total_steps, stopped_by, first, last, is_main=main)


def run_steps(run: RunSetup, loggers: Loggers, stop: StopSignal) -> tuple[int, signal.Signals | None]:
    """Every optimizer step from the run's start to its end, or to a signal. Returns the last step, and the signal."""
    config, accelerator = run.config.train, run.accelerator
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    hardware = run.config.hardware
    batches = load_batches(
        run.train_batches,
        (update.micro_batches[share] for update in run.plan.updates(run.start_step)),
        num_workers=hardware.dataloader_num_workers,
        pin_memory=hardware.device == "cuda",
    )
    meter, watch = Meter(accelerator, run.model.config), Stopwatch()
    step, stopped_by = run.start_step, None
    with _training_bar(run) as advance, closing(batches):
        for update in run.plan.updates(run.start_step):
            with watch.waiting():
                mine = next(batches)
            numbers = run.stepper.take(update, mine, meter)
            step = update.step
            watch.audio_seconds += sum(batch.num_samples for batch in mine) / run.extractor.sampling_rate
            stopped_by = _agree_to_stop(accelerator, stop)
            last = step == run.total_steps
            saving = stopped_by or last or step % config.save_steps == 0
            metrics: dict[str, float] = {}
            # Before every save too: weights that are no numbers must not be saved.
            if saving or step % config.logging_steps == 0:
                metrics = _train_metrics(run, numbers, meter, watch)
                loggers.log(step, {"epoch": update.epoch, **metrics})
            advance(step, metrics)
            watch.pause()
            # Not on the way out: a batch system that says stop gives seconds, and validation may take minutes.
            if last or (not stopped_by and step % (config.eval_steps or config.save_steps) == 0):
                run.last_validation = _validate(run, loggers, step=step, epoch=update.epoch)
            if saving:
                save(run, step)
            watch.go_on()
            if stopped_by:
                break
    return step, stopped_by


def save(run: RunSetup, step: int) -> None:
    """Write a checkpoint and remove the oldest beyond the limit. Every process calls it; the main one writes."""
    if run.accelerator.is_main_process:
        state = {
            "step": step,
            "num_updates": _num_updates(run),
            "total_steps": run.total_steps,
            "gumbel_temperature": run.model.quantizer.temperature,
            "num_parts": run.stepper.num_parts,
            "scaler": run.accelerator.scaler.state_dict() if run.accelerator.scaler else None,
            "first_validation": run.first_validation,
            "last_validation": run.last_validation,
            "dataset_sha256": run.dataset_sha256,
            "fixed": fixed_settings(run.plan),
        }
        output_dir = run.config.train.output_dir
        path = save_checkpoint(output_dir, run.model, run.extractor, run.optimizer.optimizer, state)
        prune_checkpoints(output_dir, run.config.train.save_total_limit)
        log.info("checkpoint_saved", step=step, path=str(path))
    run.accelerator.wait_for_everyone()


def _validate(run: RunSetup, loggers: Loggers, *, step: int, epoch: float) -> dict[str, float]:
    metrics = validate(run.accelerator, run.model, run.eval_batches, run.eval_plan)
    loggers.log(step, {"epoch": epoch, **metrics})
    return metrics


@contextmanager
def explain_out_of_memory(hardware: HardwareConfig) -> Iterator[None]:
    """One line with the setting to lower, for CUDA's error and for that of MPS, which is a plain RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory on {hardware.device}: lower --set hardware.batch_seconds (now {hardware.batch_seconds:g}; "
            "what is learned stays the same), or add --gradient-checkpointing; then --resume-from-checkpoint last"
        ) from None


@contextmanager
def _training_bar(run: RunSetup) -> Iterator[Any]:
    """A bar over the run's steps; call what it yields with (step, metrics)."""
    with progress("steps", TextColumn("{task.fields[shown]}")) as bar:
        task = bar.add_task("Training", total=run.total_steps, completed=run.start_step, shown="")
        bar.update(task, visible=run.accelerator.is_main_process)

        def advance(step: int, metrics: Mapping[str, float]) -> None:
            bar.update(task, completed=step)
            if metrics:
                bar.update(
                    task,
                    shown=f"loss {metrics['train/loss']:.3f} accuracy {metrics['train/accuracy']:.1%} "
                    f"perplexity {metrics['train/codevector_perplexity']:.0f} "
                    f"{metrics['train/audio_seconds_per_second']:.1f} audio s/s",
                )

        yield advance


def _train_metrics(
    run: RunSetup, numbers: Mapping[str, torch.Tensor | float], meter: Meter, watch: Stopwatch
) -> dict[str, float]:
    """Numbers since the last log line, read from the device here and not at every step."""
    metrics = meter.read("train") | {f"train/{name}": float(value) for name, value in numbers.items()}
    speed, wait_share = watch.lap()
    speeds = torch.tensor(speed, device=run.accelerator.device)
    metrics["train/audio_seconds_per_second"] = float(run.accelerator.reduce(speeds, "sum"))
    metrics["train/data_wait_share"] = wait_share
    scaler = run.accelerator.scaler  # fp16: an overflow is skipped, and the loss scale halved
    if scaler is not None and scaler.get_scale() < MIN_LOSS_SCALE:
        raise TrainingError(
            f"fp16 overflows at every step (loss scale {scaler.get_scale():g}), so nothing is learned; use --bf16, or "
            "--set hardware.precision=fp32"
        )
    if not math.isfinite(metrics["train/loss"]) or (scaler is None and not math.isfinite(metrics["train/grad_norm"])):
        raise TrainingError(
            f"loss {metrics['train/loss']} with gradient norm {metrics['train/grad_norm']}: the run has diverged and "
            "nothing was saved since the last checkpoint. Resume from it with half the --learning-rate"
        )
    return metrics


def _agree_to_stop(accelerator: Any, stop: StopSignal) -> signal.Signals | None:
    """The signal that any process received: all must leave at the same step, and know why."""
    received = {number: int(stop.received == number) for number in (signal.SIGINT, signal.SIGTERM)}
    return next((number for number, count in received.items() if sum_over_processes(accelerator, count)), None)


def _num_updates(run: RunSetup) -> int:
    """Updates AdamW has made, the same for every parameter: fewer than steps when fp16 skipped some."""
    first = next(iter(run.optimizer.optimizer.state.values()), None)
    return 0 if first is None else int(first["step"])


def _describe(run: RunSetup) -> Run:
    output_dir = run.config.train.output_dir
    return Run(output_dir, output_dir.name, redact(run.config.model_dump(mode="json")), run.start_step, run.total_steps)
