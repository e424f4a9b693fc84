"""`doctor`, of a run: the memory that it needs, what there is, and what to set where that is short."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runyoro_ssl.config import Config, HardwareConfig
from runyoro_ssl.devices import available_devices
from runyoro_ssl.errors import CheckpointError, TrainingError
from runyoro_ssl.model.allocator import allow, fate_of_freed_memory
from runyoro_ssl.option import AUTO, as_typed
from runyoro_ssl.page.amounts import size

if TYPE_CHECKING:
    from runyoro_ssl.model.memory import BatchSettings, Memory


def memory_rows(config: Config) -> list[list[str]]:
    """Rows of what a training run of this configuration needs, what there is, and what to set if it does not fit.

    Raises:
        CheckpointError: The model's config.json or preprocessor_config.json cannot be had, or makes no model.
    """
    from runyoro_ssl.model.at_hand import look
    from runyoro_ssl.model.checks import extractor_doubts
    from runyoro_ssl.model.extractor import load_feature_extractor
    from runyoro_ssl.model.folder import check_folder
    from runyoro_ssl.model.load import UNREADABLE, load_model_config
    from runyoro_ssl.model.memory import BatchSettings, predict_memory
    from runyoro_ssl.model.source import CONFIG, base_folder, cannot_load
    from runyoro_ssl.train.fitting import describe_run, fit

    name = config.model.model_name_or_path
    check_folder(name, weights=True)
    base_folder(config.model, "config", "extractor")
    model, extractor = load_model_config(config.model), load_feature_extractor(name, config.model.revision)
    clip_seconds = config.prepare.max_duration_sec
    try:
        run = describe_run(config, model, padded=extractor.return_attention_mask, clip_seconds=clip_seconds)
        at_hand = look(config.hardware.device, model, asks_for_precision=config.hardware.precision == AUTO)
        try:
            fitted = fit(config, run, at_hand)
        except TrainingError:  # not one clip: below is what would do
            fitted = fit(config, run, replace(at_hand, free=None))
        hardware = fitted.config.hardware
        settings = BatchSettings.of(fitted.config, padded=extractor.return_attention_mask)
        memory = predict_memory(model, settings)
    except UNREADABLE as error:
        raise CheckpointError(cannot_load(name, CONFIG, error)) from None
    clips = hardware.per_device_train_batch_size
    batch = f"{clips} clips" if clips else f"{hardware.batch_seconds:g} s"
    batch += ", gradient checkpointing" if hardware.gradient_checkpointing else ""
    return [
        *([name, f"{as_typed(getattr(hardware, name))}: {because}"] for name, because in fitted.reasons.items()),
        ["parameters", f"{memory.num_parameters / 1e6:.1f} M, of which {memory.num_trained / 1e6:.1f} M learn"],
        ["weights, gradients", f"{size(memory.weights)}, {size(memory.gradients)}"],
        ["AdamW states", size(memory.adamw)],
        *([["moving average", size(memory.averages)]] if memory.averages else []),
        ["activations: feature encoder", size(memory.feature_encoder)],
        ["activations: context network", size(memory.context_network)],
        *([[f"{hardware.precision} copies of weights", size(memory.casts)]] if memory.casts else []),
        ["objective", size(memory.objective)],
        ["batches that wait", size(memory.batches)],
        *([["base: Python and libraries", size(memory.base)]] if memory.base else []),
        [f"predicted peak, {hardware.device}, {hardware.precision}, micro-batch of {batch}", size(memory.peak)],
        ["when", memory.peak_moment],
        *_kept(hardware, memory),
        *(["doubtful", doubt] for doubt in extractor_doubts(extractor, model)),
        *_verdict(model, settings, memory),
    ]


def _kept(hardware: HardwareConfig, memory: Memory) -> list[list[str]]:
    """What becomes of freed memory, and what a run then stays within."""
    if hardware.device != "cpu":
        return []
    allowance = allow(memory, keep_freed_memory=hardware.keep_freed_memory)
    return [["freed memory", fate_of_freed_memory(allowance)], ["at most", size(allowance.most)]]


def _verdict(model: Any, settings: BatchSettings, memory: Memory) -> list[list[str]]:
    """What memory there is, the largest micro-batch that fits, and what to set if this one does not."""
    from runyoro_ssl.model.at_hand import free_memory
    from runyoro_ssl.model.memory import largest_batch_seconds

    if settings.device not in available_devices():
        return [["memory of this machine", f"no {settings.device} here: run doctor where you will train"]]
    free = free_memory(settings.device)
    budget = free + memory.base  # which is in use here already
    largest = _within_device(model, settings, largest_batch_seconds(model, settings, budget))
    rows = [
        [f"memory free for it ({settings.device})", size(free)],
        ["largest hardware.batch_seconds that fits", "not one clip" if largest is None else f"{largest:g}"],
    ]
    if memory.peak <= budget:
        return [*rows, ["fits", "yes"]]
    saving = replace(settings, gradient_checkpointing=True)
    checkpointed = (
        None
        if settings.gradient_checkpointing
        else _within_device(model, saving, largest_batch_seconds(model, saving, budget))
    )
    ways = [f"--set hardware.batch_seconds={largest:g}"] if largest is not None else []
    if checkpointed is not None and checkpointed > (largest or 0):
        ways.append(f"--gradient-checkpointing and --set hardware.batch_seconds={checkpointed:g}")
    if not ways:
        ways = [f"shorter clips than {settings.clip_seconds:g} s (prepare --max-duration-sec), or a smaller model"]
    return [*rows, ["fits", f"no; train with {', or with '.join(ways)}"]]


def _within_device(model: Any, settings: BatchSettings, seconds: float | None) -> float | None:
    """A micro-batch's seconds, or fewer where the device would compute so many wrongly."""
    from runyoro_ssl.model.memory import SAMPLING_RATE
    from runyoro_ssl.model.mps import most_batch_seconds

    if seconds is None or settings.device != "mps":
        return seconds
    return min(seconds, float(math.floor(most_batch_seconds(model, SAMPLING_RATE))))
