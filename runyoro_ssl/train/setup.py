"""Build everything a run needs, and refuse what cannot train, before the first step."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from runyoro_ssl.config import Config, HardwareConfig, MaskingConfig
from runyoro_ssl.errors import CheckpointError, ConfigError, TrainingError
from runyoro_ssl.logs import get_logger, redact
from runyoro_ssl.plugins import Plugins, ensure_picklable
from runyoro_ssl.prepare.dataset import load_splits, read_fingerprint
from runyoro_ssl.prepare.extractor import load_feature_extractor
from runyoro_ssl.prepare.reading import Clips
from runyoro_ssl.train.batches import BatchBuilder
from runyoro_ssl.train.checkpoint import find_checkpoint, load_optimizer, load_state
from runyoro_ssl.train.masking import MaskSummary, summarise_masks
from runyoro_ssl.train.memory import BatchSettings, tune_allocator
from runyoro_ssl.train.model import load_model, num_frames
from runyoro_ssl.train.optim import build_optimizer
from runyoro_ssl.train.plan import MicroBatch, PlanSettings, RunPlan, wasted_share
from runyoro_ssl.train.precision import is_emulated, set_precision
from runyoro_ssl.train.random import derive_seed
from runyoro_ssl.train.step import Stepper
from runyoro_ssl.train.validation import plan_validation

log = get_logger()

MAX_SHARE_WITHOUT_MASK = 0.2
"""Above this share of clips with too few masked frames, training is refused."""
MAX_MPS_CLIP_SEC = 20.48
"""Convolutions with more than 65,536 output frames fail on some versions of MPS; of matrix products, as ours are, it is
not known."""


@dataclass
class RunSetup:
    """What the loop works with."""

    config: Config
    accelerator: Any
    model: Any
    extractor: Any
    optimizer: Any
    plan: RunPlan
    total_steps: int
    start_step: int
    first_validation: dict[str, float] | None
    """Of the model as it came; None until it is made. A resumed run has both from its checkpoint."""
    last_validation: dict[str, float] | None
    train_batches: BatchBuilder
    eval_batches: BatchBuilder
    eval_plan: list[MicroBatch]
    dataset_sha256: str
    mask_summary: MaskSummary
    num_parts: int
    """In how many parts micro-batches ran when the checkpoint was written: it decides what is drawn."""

    @cached_property
    def stepper(self) -> Stepper:
        """What takes this run's steps."""

        def report(num_parts: int) -> None:
            log.warning("out_of_memory", micro_batches=f"in {num_parts} parts from now on", update="as large as before")

        return Stepper(
            self.accelerator,
            self.model,
            self.optimizer,
            self.config.train,
            self.total_steps,
            report,
            self.num_parts,
        )


def build_run(config: Config, plugins: Plugins) -> RunSetup:
    """Load and check data, model and plugins; restore a checkpoint if asked.

    Raises:
        RunyoroError: Of the kind that fits; nothing has been written by then.
    """
    output_dir = config.train.output_dir
    checkpoint = _find_start(config)
    accelerator = make_accelerator(config.hardware)

    name = config.model.model_name_or_path if checkpoint is None else str(checkpoint)
    extractor = load_feature_extractor(name)
    splits = load_splits(config.train.processed_dataset_path, sampling_rate=extractor.sampling_rate)
    fingerprint = read_fingerprint(config.train.processed_dataset_path)
    state = load_state(checkpoint) if checkpoint else {}
    torch.manual_seed(derive_seed(config.train.seed, "new weights"))
    model = load_model(config.model.model_copy(update={"model_name_or_path": name}), config.hardware)
    model.to(accelerator.device)
    if config.hardware.device == "cpu":
        batches = BatchSettings.of(config, padded=extractor.return_attention_mask)
        tune_allocator(model.config, batches, keep_freed_memory=config.hardware.keep_freed_memory)

    lengths = tuple(splits["train"].with_format("numpy")["num_samples"][:].tolist())
    summary = _check_masks(model, lengths, config, sampling_rate=extractor.sampling_rate)
    settings = PlanSettings.from_hardware(
        config.hardware, sampling_rate=extractor.sampling_rate, num_processes=accelerator.num_processes
    )
    plan = RunPlan(lengths, settings, config.train.seed, config.train.num_train_epochs, config.train.max_steps)
    if checkpoint:
        _check_resumable(checkpoint, state, plan, fingerprint["content_sha256"])
    optimizer = accelerator.prepare(build_optimizer(model, config.train))
    if checkpoint:
        load_optimizer(checkpoint, model, optimizer.optimizer, num_updates=state["num_updates"])
        if accelerator.scaler is not None and state.get("scaler"):
            accelerator.scaler.load_state_dict(state["scaler"])
        if accelerator.is_main_process:
            log.info("resumed", checkpoint=str(checkpoint), step=state["step"])
    elif config.train.resume_from_checkpoint and accelerator.is_main_process:
        log.info("nothing_to_resume", output_dir=str(output_dir), starting="anew")

    eval_lengths = splits["validation"].with_format("numpy")["num_samples"][:].tolist()
    return RunSetup(
        config=config,
        accelerator=accelerator,
        model=model,
        extractor=extractor,
        optimizer=optimizer,
        plan=plan,
        total_steps=plan.total_steps,
        start_step=int(state.get("step", 0)),
        first_validation=state.get("first_validation"),
        last_validation=state.get("last_validation"),
        train_batches=_builder(splits["train"], model, extractor, config, plugins, stage="train"),
        eval_batches=_builder(splits["validation"], model, extractor, config, plugins, stage="eval"),
        eval_plan=plan_validation(eval_lengths, settings),
        dataset_sha256=fingerprint["content_sha256"],
        mask_summary=summary,
        num_parts=int(state.get("num_parts", 1)),
    )


def make_accelerator(hardware: HardwareConfig) -> Any:
    """An Accelerator on the profile's device, with its precision; one for each process that was launched.

    Processes wait for each other here: until then none has written into the output folder.
    """
    from accelerate import Accelerator

    from runyoro_ssl.devices import check_device

    check_device(hardware.device)
    mixed_precision = set_precision(hardware.device, hardware.precision)
    if is_emulated(hardware.device, hardware.precision):
        log.warning("bf16_is_emulated", because="this CPU has no units for it", advice="fp32 is far faster here")
    # Losses are weighed by masked frames here; `accelerate launch` would divide them once more.
    os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)
    return Accelerator(mixed_precision=mixed_precision, cpu=hardware.device == "cpu")


def _find_start(config: Config) -> Path | None:
    """The checkpoint to start from; None to start anew, which takes a new or empty folder."""
    output_dir, wanted = config.train.output_dir, config.train.resume_from_checkpoint
    checkpoint = find_checkpoint(output_dir, wanted) if wanted else None
    if checkpoint is not None and checkpoint.resolve().parent == output_dir.resolve():
        return checkpoint
    if output_dir.is_dir() and any(not path.name.startswith(".") for path in output_dir.iterdir()):
        advice = (
            "give another --output-dir" if wanted else "go on with it by --resume-from-checkpoint last, or give another"
        )
        found = "no complete checkpoint" if wanted == "last" else "another run, or something else"
        raise ConfigError(f"{output_dir} already holds a run: {found}; {advice}")
    return checkpoint


def _check_resumable(checkpoint: Path, state: dict[str, Any], plan: RunPlan, dataset_sha256: str) -> None:
    problems = [
        f"{name} was {state['fixed'].get(name)}, is {value}"
        for name, value in fixed_settings(plan).items()
        if state["fixed"].get(name) != value
    ]
    if state["dataset_sha256"] != dataset_sha256:
        problems.append("the prepared dataset is another one")
    if problems:
        raise CheckpointError(
            f"{checkpoint}: cannot go on with the same clips: {'; '.join(problems)}. Restore these, or start a new run "
            "with --model-name-or-path on this checkpoint and another --output-dir"
        )
    if state["step"] > plan.total_steps:
        raise ConfigError(
            f"{checkpoint} is at step {state['step']}, past the {plan.total_steps} steps asked for; raise --max-steps "
            "or --num-train-epochs"
        )


def fixed_settings(plan: RunPlan) -> dict[str, Any]:
    """What decides which clips a step sees, by the setting a user knows: a resumed run must keep it."""
    return {
        "train.seed": plan.seed,
        "hardware.batch_seconds (in samples)": plan.settings.batch_samples,
        "hardware.update_seconds (in samples)": plan.settings.update_samples,
        "hardware.clip_lengths": plan.settings.num_lengths,
        "hardware.per_device_train_batch_size": plan.settings.clips_per_batch,
        "hardware.gradient_accumulation_steps x processes": plan.settings.batches_per_update,
    }


def _check_masks(model: Any, lengths: tuple[int, ...], config: Config, *, sampling_rate: int) -> MaskSummary:
    """The mask summary of the user's own clips; refuses settings that cannot train."""
    if not hasattr(model.wav2vec2, "masked_spec_embed"):
        raise CheckpointError(
            f'model "{config.model.model_name_or_path}" has no mask embedding (its config has mask_time_prob 0); '
            "it was not pre-trained by masking: give the base checkpoint"
        )
    if config.masking.mask_feature_prob > 0 and config.masking.mask_feature_length > model.config.hidden_size:
        raise ConfigError(
            f"masking.mask_feature_length is {config.masking.mask_feature_length}, the model has "
            f"{model.config.hidden_size} hidden dimensions; lower it"
        )
    longest_sec = max(lengths) / sampling_rate
    if config.hardware.device == "mps" and longest_sec > MAX_MPS_CLIP_SEC:
        raise TrainingError(
            f"the longest clip has {longest_sec:.1f} s; MPS takes at most {MAX_MPS_CLIP_SEC} s: run `invoke prepare` "
            "with --max-duration-sec 15"
        )
    frames = num_frames(torch.tensor(lengths), model.config).tolist()
    summary = summarise_masks(frames, config.masking, seed=config.train.seed)
    if summary.num_without > MAX_SHARE_WITHOUT_MASK * summary.num_clips:
        raise TrainingError(
            f"{summary.line()}: more than {MAX_SHARE_WITHOUT_MASK:.0%} would teach nothing. Raise --mask-time-prob "
            f"(now {config.masking.mask_time_prob:g}; 0.65 is usual) or masking.mask_time_min_spans "
            f"(now {config.masking.mask_time_min_spans})"
        )
    return summary


def _builder(split: Any, model: Any, extractor: Any, config: Config, plugins: Plugins, *, stage: Any) -> BatchBuilder:
    training = stage == "train"
    # Validation is the same for every run: padded, without augmentation, with the default masks.
    collator = plugins.collator() if training else plugins.collator("padded")
    augmentations = tuple(plugins.augmentations()) if training else ()
    if config.hardware.dataloader_num_workers:
        ensure_picklable("collator", [(config.plugins.collator, collator)])
        ensure_picklable("augmentation", augmentations)
    return BatchBuilder(
        clips=Clips(split),
        model_config=model.config,
        masking=config.masking if training else MaskingConfig(),
        collator=collator,
        augmentations=augmentations,
        do_normalize=extractor.do_normalize,
        use_attention_mask=extractor.return_attention_mask,
        seed=config.train.seed,
        stage=stage,
    )


def try_first_batch(run: RunSetup) -> None:
    """Build the first batch of the run here, before anything is written: plugin mistakes show at once."""
    for update in run.plan.updates(run.start_step):
        run.train_batches[update.micro_batches[0]]
        return


def describe_run(run: RunSetup) -> list[list[str]]:
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
        ["steps", f"{run.total_steps} of {per_update:.0f} audio seconds, from step {run.start_step}"],
        ["plan", f"{len(batches)} micro-batches an epoch; {wasted:.1%} wasted on padding and audio left out"],
        ["learning rate", f"{config.train.learning_rate:g}, seed {config.train.seed}"],
        ["augmentations", ", ".join(config.plugins.augmentations) or "none"],
        ["output", str(config.train.output_dir)],
    ]


def write_run_files(run: RunSetup) -> None:
    """run.toml: the resolved configuration; a resumed run replaces it."""
    output_dir = run.config.train.output_dir
    output_dir.mkdir(parents=True, exist_ok=True)
    header = f"# Resolved configuration of this run. Command: {' '.join(map(json.dumps, redact(sys.argv[1:])))}\n"
    (output_dir / "run.toml").write_text(header + run.config.to_toml(), encoding="utf-8")
