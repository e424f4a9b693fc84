"""What a run says of itself before its first step, and writes into its folder."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from runyoro_ssl.batches.plan import wasted_share
from runyoro_ssl.disk.durable import replace_file
from runyoro_ssl.plugin.spec import Run
from runyoro_ssl.redaction import redact, redact_command

if TYPE_CHECKING:
    from runyoro_ssl.train.training_run import TrainingRun


def describe_run(run: TrainingRun) -> list[list[str]]:
    """Rows of the table printed before the first step: what this run is."""
    config, hardware = run.config, run.config.hardware
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    train_hours = sum(run.plan.num_samples) / run.extractor.sampling_rate / 3600
    updates = run.plan.epoch(0)
    per_update = train_hours * 3600 / len(updates)
    batches = [batch for update in updates for batch in update]
    wasted = wasted_share(batches, run.plan.num_samples)
    return [
        ["device", f"{run.accelerator.device}, {hardware.precision}, {run.accelerator.num_processes} process(es)"],
        ["model", f"{config.model.model_name_or_path} ({parameters / 1e6:.1f} M parameters)"],
        ["training data", f"{len(run.plan.num_samples)} clips, {train_hours:.2f} h"],
        ["validation data", f"{sum(len(batch.clips) for batch in run.eval_plan)} clips"],
        ["steps", f"{run.total_steps} of {per_update:.0f} audio seconds, from step {run.step}"],
        ["plan", f"{len(batches)} micro-batches an epoch; {wasted:.1%} wasted on padding and audio left out"],
        ["learning rate", f"{config.train.learning_rate:g}, seed {config.train.seed}"],
        ["augmentations", ", ".join(config.plugins.augmentations) or "none"],
        ["output", str(config.train.output_dir)],
    ]


def write_run_files(run: TrainingRun) -> None:
    """run.toml: the resolved configuration; a resumed run replaces it."""
    output_dir = run.config.train.output_dir
    output_dir.mkdir(parents=True, exist_ok=True)
    header = f"# Resolved configuration of this run. Command: {redact_command(sys.argv[1:])}\n"
    replace_file(output_dir / "run.toml", header + run.config.to_toml())


def describe(run: TrainingRun) -> Run:
    """What the logging backends are told."""
    output_dir = run.config.train.output_dir
    config = redact(run.config.model_dump(mode="json"))
    is_new = not run.validations  # a run that went back to its start keeps its first one
    is_validated = run.validations.get("last", {}).get("step") == run.step
    return Run(output_dir, output_dir.name, config, run.step, run.total_steps, is_new, is_validated)
