"""Everything that a run needs is built here, and what cannot train is refused, before the first step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from runyoro_ssl.batches.build import BatchBuilder, Waveforms, place_of
from runyoro_ssl.batches.micro_batches import PlanSettings
from runyoro_ssl.batches.plan import RunPlan
from runyoro_ssl.batches.regroup import Regroup
from runyoro_ssl.batches.unreadable import Unreadable
from runyoro_ssl.config import FittedConfig, FittedHardware, HardwareConfig, MaskingConfig
from runyoro_ssl.dataset.content import has_checksums
from runyoro_ssl.errors import ConfigError, TrainingError
from runyoro_ssl.evaluate.heldout import Judged, check_validation, plan_validation
from runyoro_ssl.evaluate.metrics import Meter
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.allocator import Allowance, allow, tune_allocator
from runyoro_ssl.model.checks import extractor_doubts
from runyoro_ssl.model.forward import num_frames
from runyoro_ssl.model.masking import MaskSummary
from runyoro_ssl.model.memory import BatchSettings, predict_memory
from runyoro_ssl.model.mps import why_too_large
from runyoro_ssl.model.precision import is_emulated, set_precision
from runyoro_ssl.plugin.manager import Plugins, ensure_picklable
from runyoro_ssl.setting import deciding
from runyoro_ssl.train.averaging import MovingAverage
from runyoro_ssl.train.checkpoints.resume import Start, settings_of_the_run
from runyoro_ssl.train.checkpoints.snapshot import restore
from runyoro_ssl.train.describe import report_changes
from runyoro_ssl.train.fitting import Fitted, Material
from runyoro_ssl.train.health.watch import HealthWatch
from runyoro_ssl.train.optim import build_optimizer, freeze, warmup_steps
from runyoro_ssl.train.sharing.agreement import check_agreement
from runyoro_ssl.train.sharing.choice import Choice, choose_way
from runyoro_ssl.train.sources import Sources, read_contents
from runyoro_ssl.train.start_checks import check_masks, check_schedule, check_training_clips
from runyoro_ssl.train.step import Stepper
from runyoro_ssl.train.training_run import TrainingRun
from runyoro_ssl.train.tryout import try_out
from runyoro_ssl.train.weights import load_run_model, put_on_device

log = get_logger()


def build_run(fitted: Fitted, material: Material, plugins: Plugins, accelerator: Any, start: Start) -> TrainingRun:
    """Load the model, check it with data and plugins, and put the run where it starts.

    Raises:
        RunyoroError: Of the kind that fits; nothing has been written by then.
    """
    config, extractor, sources = fitted.config, material.extractor, material.sources
    model, base_sha256 = load_run_model(config, start)
    if accelerator.is_main_process:
        _tell_doubts(material, model)
    contents = read_contents(config.train)
    check_agreement(accelerator, _settings_alike(config), contents, model)
    choice = choose_way(config.hardware, accelerator, model.config, _batch_settings(config, material, accelerator))
    memory = _allow_memory(config, model, material, accelerator, choice)
    freeze(model, config.train)
    if choice.way != "shards":  # of which no process could try a micro-batch alone
        put_on_device(model, config, accelerator.device)
        fitted = try_out(fitted, material, model, accelerator)
    if fitted.config is not config:
        config = fitted.config
        memory = _allow_memory(config, model, material, accelerator, choice)
    check_validation(sources.target.held_out, model.config, sampling_rate=extractor.sampling_rate)
    for source in sources.every:
        check_training_clips(source.clips, sampling_rate=extractor.sampling_rate, of=sources.words(source))
    summary = _check_masks(model, sources, config)
    machine = PlanSettings.from_hardware(
        config.hardware, sampling_rate=extractor.sampling_rate, num_processes=accelerator.num_processes
    )
    if config.hardware.device == "mps":
        _check_sizes(model, sources.lengths, machine, sampling_rate=extractor.sampling_rate)
    grouped = machine.grouped_by(config.hardware.plan_seconds * extractor.sampling_rate)
    regroup = Regroup(start.plan or grouped, machine, accelerator.num_processes)
    plan = _plan(config, start, regroup, sources)
    sharing = choice.share(accelerator, model)
    optimizer = accelerator.prepare(
        build_optimizer(model, config.train, adapter_lr_scale=config.adapter.learning_rate_scale)
    )
    clips = sources.clips()
    judged = tuple(
        Judged.of(
            f"eval/{source.name}" if number else "eval",
            _builder(source.held_out, model, extractor, config, plugins, stage="eval"),
            plan_validation(source.held_out_lengths, machine, plan.lengths, sources.judged_clips(source)),
        )
        for number, source in enumerate(sources.every)
    )
    average = None if config.train.ema_decay is None else MovingAverage(model, config.train.ema_decay)
    run = TrainingRun(
        config=config,
        accelerator=accelerator,
        model=model,
        sharing=sharing,
        choice=choice,
        extractor=extractor,
        optimizer=optimizer,
        plan=plan,
        total_steps=plan.total_steps,
        train_batches=_builder(clips, model, extractor, config, plugins, stage="train"),
        judged=judged,
        sources=sources,
        contents=contents,
        mask_summary=summary,
        stepper=Stepper(accelerator, model, optimizer, config.train, plan.total_steps, _report_parts, sharing),
        meter=Meter(accelerator, model.config),
        watch=HealthWatch(config.health, warmup_steps=warmup_steps(config.train, plan.total_steps)),
        memory=memory,
        reasons=fitted.reasons,
        machine=fitted.machine,
        base_model=config.model.model_name_or_path,
        base_revision=config.model.revision,
        base_sha256=base_sha256,
        average=average,
        unreadable=Unreadable(
            len(sources.lengths), config.train.max_unreadable_share, partial(place_of, clips), sources.sizes()
        ),
    )
    if average is not None:
        run.stepper.after_step = average.update
    restore(run, start)
    if accelerator.is_main_process:
        if start.path is None:  # a run under way keeps its schedule
            check_schedule(config.train, plan.total_steps)
        report_changes(run, start, regroup)
    return run


def _tell_doubts(material: Material, model: Any) -> None:
    """Say what of model and data is not as it should be, and can be trained with."""
    for doubt in extractor_doubts(material.extractor, model.config):
        log.warning("feature_extractor_doubtful", model=material.name, because=doubt)
    if not all(has_checksums(source.splits) for source in material.sources.every):
        log.info(
            "dataset_has_no_checksums",
            because="a version before 0.3 made it: damage inside a clip would not be noticed",
            advice="`invoke prepare --overwrite` makes it anew, from the same clips",
        )


def _settings_alike(config: FittedConfig) -> dict[str, Any]:
    """The settings that must be alike in all processes of a run, by name."""
    names = [*deciding("steps", HardwareConfig), *deciding("rounding", HardwareConfig)]
    sections = {**settings_of_the_run(config), "hardware": config.hardware.model_dump(mode="json", include={*names})}
    return {f"{section}.{name}": value for section, fields in sections.items() for name, value in fields.items()}


def _batch_settings(config: FittedConfig, material: Material, accelerator: Any) -> BatchSettings:
    """The micro-batches of a run that each of its processes holds whole."""
    padded = material.extractor.return_attention_mask
    return BatchSettings.of(config, padded=padded, clip_seconds=material.longest_sec).shared(accelerator.num_processes)


def _allow_memory(
    config: FittedConfig, model: Any, material: Material, accelerator: Any, choice: Choice
) -> Allowance | None:
    """Predict what the run takes on a CPU, and set the allocator to stay within that; None on other devices."""
    if config.hardware.device != "cpu":
        return None
    batches = replace(_batch_settings(config, material, accelerator), sharded=choice.way == "shards")
    allowance = allow(predict_memory(model.config, batches), keep_freed_memory=config.hardware.keep_freed_memory)
    tune_allocator(keep=allowance.keeps)
    return allowance


def _plan(config: FittedConfig, start: Start, regroup: Regroup, sources: Sources) -> RunPlan:
    """The run's plan: a resumed run keeps its own.

    Raises:
        ConfigError: It is shorter than what is done; or it ends before a source is heard.
    """
    train, state = config.train, start.state
    if state and regroup.planned != PlanSettings(**state["plan"]):
        log.warning("clips_planned_anew", by="--override-mismatch", was=state["plan"], now=asdict(regroup.planned))
    epochs, steps = train.num_train_epochs, train.max_steps
    plan = RunPlan(sources.lengths, regroup.planned, train.seed, epochs, steps, regroup, sources.mix())
    for source in sources.others:
        if source.setting.from_step >= plan.total_steps:
            raise ConfigError(
                f"train.sources: {source.name} is heard after step {source.setting.from_step}, and the run ends after "
                f"{plan.total_steps}; give it a lower from_step, or leave it out"
            )
    if state and state["step"] > plan.total_steps:
        raise ConfigError(
            f"the checkpoint is at step {state['step']}, past the {plan.total_steps} steps asked for; raise "
            "--max-steps or --num-train-epochs"
        )
    return plan


def _report_parts(num_parts: int) -> None:
    log.warning("out_of_memory", micro_batches=f"in {num_parts} parts from now on", update="as large as before")


def make_accelerator(hardware: FittedHardware) -> Any:
    """An Accelerator on the run's device, with its precision; one for each process that was launched."""
    from accelerate import Accelerator

    mixed_precision = set_precision(hardware.device, hardware.precision)
    if is_emulated(hardware.device, hardware.precision):
        advice = "--set hardware.precision=auto takes what is fast here"
        log.warning("bf16_is_emulated", because="the device has no units for it", advice=advice)
    # Losses are weighed by masked frames here; `accelerate launch` would divide them once more.
    os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)
    return Accelerator(mixed_precision=mixed_precision, cpu=hardware.device == "cpu")


def _check_masks(model: Any, sources: Sources, config: FittedConfig) -> MaskSummary:
    """The mask summary of the user's own clips, all together; refuses settings that cannot train, on any source."""
    if config.masking.mask_feature_prob > 0 and config.masking.mask_feature_length > model.config.hidden_size:
        raise ConfigError(
            f"masking.mask_feature_length is {config.masking.mask_feature_length}, the model has "
            f"{model.config.hidden_size} hidden dimensions; lower it"
        )
    for source in sources.every if sources.others else ():
        try:
            check_masks(_frames(model, source.lengths), config.masking, seed=config.train.seed)
        except TrainingError as error:
            raise TrainingError(f"source {source.name}: {error}") from None
    return check_masks(_frames(model, sources.lengths), config.masking, seed=config.train.seed)


def _frames(model: Any, lengths: Sequence[int]) -> list[int]:
    return [int(count) for count in num_frames(torch.tensor(lengths), model.config)]


def _check_sizes(model: Any, lengths: tuple[int, ...], settings: PlanSettings, *, sampling_rate: int) -> None:
    """Refuse micro-batches that MPS computes wrongly, or not at all."""
    longest = max(lengths)
    size = longest * settings.clips_per_batch if settings.clips_per_batch else settings.batch_samples
    if problem := why_too_large(model.config, longest=longest, batch_samples=size, sampling_rate=sampling_rate):
        raise TrainingError(problem)


def _builder(
    clips: Waveforms, model: Any, extractor: Any, config: FittedConfig, plugins: Plugins, *, stage: Any
) -> BatchBuilder:
    training = stage == "train"
    # Validation is the same for every run: padded, without augmentation, with the default masks.
    collator = plugins.collator() if training else plugins.collator("padded")
    augmentations = tuple(plugins.augmentations()) if training else ()
    if config.hardware.dataloader_num_workers:
        ensure_picklable("collator", [(config.plugins.collator, collator)])
        ensure_picklable("augmentation", augmentations)
    return BatchBuilder(
        clips=clips,
        model_config=model.config,
        masking=config.masking if training else MaskingConfig(),
        collator=collator,
        augmentations=augmentations,
        do_normalize=extractor.do_normalize,
        use_attention_mask=extractor.return_attention_mask,
        seed=config.train.seed,
        stage=stage,
    )


def try_first_batch(run: TrainingRun) -> None:
    """Build the first batch of the run here, before anything is written: plugin mistakes show at once."""
    for update in run.plan.updates(run.step):
        run.train_batches[update.micro_batches[0]]
        return
