"""The account that a run gives of itself before its first step: printed, logged and written into its folder."""

from __future__ import annotations

import sys
from pathlib import Path

from runyoro_ssl.batches.micro_batches import wasted_share
from runyoro_ssl.batches.regroup import Regroup
from runyoro_ssl.config import Config, HardwareConfig, SourceConfig, TrainConfig
from runyoro_ssl.disk.durable import replace_file
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.allocator import fate_of_freed_memory
from runyoro_ssl.model.counts import count_trained
from runyoro_ssl.model.source import RUN_FILE
from runyoro_ssl.option import as_typed
from runyoro_ssl.page.amounts import size
from runyoro_ssl.plugin.spec import Run
from runyoro_ssl.redaction import redact, redact_command
from runyoro_ssl.setting import deciding
from runyoro_ssl.train.checkpoints.resume import Start
from runyoro_ssl.train.intervals import Intervals
from runyoro_ssl.train.training_run import TrainingRun

log = get_logger()

SIZES = ("batch_seconds", "per_device_train_batch_size")
"""How large the micro-batches of a machine are."""


def summary_rows(run: TrainingRun, step_seconds: float | None = None) -> list[list[str]]:
    """Rows of the table printed before the first step: what this run is. With times, where a step's is known."""
    config, hardware = run.config, run.config.hardware
    reasons = [[name, f"{as_typed(getattr(hardware, name))}: {why}"] for name, why in run.reasons.items()]
    (parameters, trained), updates = count_trained(run.model), run.plan.epoch(0)
    batches = [batch for update in updates for batch in run.plan.regroup(update, run.plan.num_samples)]
    wasted = wasted_share(batches, run.plan.num_samples)
    seconds = run.update_seconds
    epochs, num_processes = run.total_steps / len(updates), run.accelerator.num_processes
    if run.plan.mix is not None:  # its epochs may differ in length
        (last,) = run.plan.updates(run.total_steps - 1)
        epochs = last.epoch
    processes = "1 process" if num_processes == 1 else f"{num_processes} processes"
    return [
        ["device", f"{run.accelerator.device}, {hardware.precision}, {processes}"],
        *_sharing_rows(run),
        ["model", f"{config.model.model_name_or_path} ({parameters / 1e6:.1f} M parameters)"],
        ["learning", _learning(parameters, sum(trained), config)],
        *_data_rows(run),
        ["steps", f"{run.total_steps}, each of {seconds:.0f} s of audio; {epochs:.3g} epochs; from step {run.step}"],
        ["plan", f"{len(batches)} micro-batches an epoch; {wasted:.1%} wasted on padding and audio left out"],
        *_memory_rows(run),
        *reasons,
        ["learning rate", f"{config.train.learning_rate:g} at its peak, {_course(config)}; seed {config.train.seed}"],
        ["augmentations", ", ".join(config.plugins.augmentations) or "none"],
        *_final_rows(config.train),
        *([name, how_often] for name, how_often in Intervals.of(run).words(step_seconds).items()),
        ["output", str(config.train.output_dir)],
    ]


def _data_rows(run: TrainingRun) -> list[list[str]]:
    """What is learned from, and what is held out; of each source, where there are several."""
    target, held_out = run.sources.target, f"{sum(len(batch.clips) for batch in run.judged[0].plan)} clips"
    rows = [["training data", f"{len(target.lengths)} clips, {run.train_hours:.2f} h"], ["validation data", held_out]]
    if not run.sources.others:
        return rows
    epoch = run.sources.epoch_seconds
    for source, share in zip(run.sources.every, run.sources.shares, strict=True):
        passes = share * epoch / source.seconds
        said = f"{source.role}, {share:.1%} of the audio, {passes:.3g} x its {source.seconds / 3600:.2f} h an epoch"
        rows.append([f"source {source.name}", said + _when(source.setting)])
    return rows


def _when(source: SourceConfig) -> str:
    """From and until which step a source is heard, where that is not all the time."""
    begins = f", from step {source.from_step}" if source.from_step else ""
    return begins + (f", until step {source.until_step}" if source.until_step is not None else "")


def _learning(parameters: int, trained: int, config: Config) -> str:
    """Which weights learn, how many, and by which optimizer."""
    said = f"{trained / 1e6:.2f} M weights ({trained / parameters:.1%}), by {config.train.optimizer}"
    adapter = config.adapter
    if config.train.train_only == "feature_encoder":
        return f"{said}: those of the feature encoder alone"
    if adapter.kind == "none":
        return said
    also = f"; {', '.join(adapter.also)}" if adapter.also else ""
    return f"{said}: LoRA of rank {adapter.rank} on {', '.join(adapter.targets)}{also}; merged when saved"


def _course(config: Config) -> str:
    """What becomes of the learning rate after its peak; and of that of lower layers."""
    course = "which it keeps" if config.train.constant_after_warmup else "then down to 0"
    decay = config.train.layer_decay
    return course if decay == 1 else f"{course}; of each layer {decay:g} times that of the one above"


def _final_rows(train: TrainConfig) -> list[list[str]]:
    """What may be the final model, where it is not the best checkpoint in any case."""
    others = [f"a moving average, decay {train.ema_decay:g}"] if train.ema_decay is not None else []
    others += [f"the mean of the last {train.average_last} checkpoints"] if train.average_last else []
    shares = ", ".join(f"{100 * share:g} %" for share in train.interpolate)
    others += [f"mixtures with the base ({shares} adapted)"] if shares else []
    return [["final model", f"the best checkpoint, unless better for certain: {'; '.join(others)}"]] if others else []


def _sharing_rows(run: TrainingRun) -> list[list[str]]:
    """How several processes share the model."""
    num_processes = run.accelerator.num_processes
    return [["weights, gradients, moments", run.choice.words(num_processes)]] if num_processes > 1 else []


def _memory_rows(run: TrainingRun) -> list[list[str]]:
    """What the run may take of this machine's memory."""
    if run.memory is None:
        return []
    return [
        ["memory", f"{size(run.memory.predicted)} predicted, at most {size(run.memory.most)}"],
        ["freed memory", fate_of_freed_memory(run.memory)],
    ]


def report_changes(run: TrainingRun, start: Start, regroup: Regroup) -> None:
    """Log what differs from the run as it was: its settings; and on another machine, what is kept and what is not."""
    if start.path is None:
        return
    if start.differences:
        log.warning("run_changed", by="--override-mismatch", changes="; ".join(start.differences))
    was, now = start.state["hardware"], run.config.hardware.model_dump(mode="json")
    was = {**now, **was}  # a version before this one had fewer settings
    kept = {name: was[name] for name in deciding("steps", HardwareConfig) if was[name] != now[name]}
    if kept and regroup.planned != regroup.machine:
        log.info("kept_from_the_run", **kept, because="they decide which clips an optimizer step sees")
    rounding = [name for name in deciding("rounding", HardwareConfig) if was[name] != now[name]]
    changed = [f"{name} {was[name]} -> {now[name]}" for name in rounding]
    if changed:
        log.info("computed_otherwise", changes=", ".join(changed), means="the same clips, other rounding")
    if regroup.changes and any(was[name] != now[name] for name in SIZES):
        cropped = run.config.plugins.collator == "cropped"
        crops = "; crops, as the collator crops to the shortest" if cropped else ""
        log.info(
            "micro_batches_regrouped",
            kept="the clips of each step, their masks and negatives",
            not_kept=f"what is drawn for a micro-batch (dropout, Gumbel noise), and its diversity loss{crops}",
        )


def write_run_files(run: TrainingRun, output_dir: Path) -> None:
    """Write run.toml, the resolved configuration, into a run's folder; that of a resumed run replaces it."""
    output_dir.mkdir(parents=True, exist_ok=True)
    header = f"# Resolved configuration of this run. Command: {redact_command(sys.argv[1:])}\n"
    replace_file(output_dir / RUN_FILE, header + run.config.to_toml())


def run_for_loggers(run: TrainingRun) -> Run:
    """The run as the logging backends are told of it."""
    output_dir, validations = run.config.train.output_dir, run.watch.validations
    config = redact(run.config.model_dump(mode="json"))
    is_new = not validations  # a run that went back to its start keeps its first one
    is_validated = validations.get("last", {}).get("step") == run.step
    return Run(output_dir, output_dir.name, config, run.step, run.total_steps, is_new, is_validated)
