"""`doctor`: what this machine is, what will work on it, and what memory a training run needs."""

from __future__ import annotations

import math
import os
import platform
import shutil
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from runyoro_ssl import __version__
from runyoro_ssl.commands.checking import Checked, check, refuse_check_options, show_check
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.options import DoctorOptions
from runyoro_ssl.commands.what_fits import WhatFits, find_what_fits, show_what_fits
from runyoro_ssl.config import Config, HardwareConfig
from runyoro_ssl.devices import available_devices
from runyoro_ssl.errors import CheckpointError, TrainingError
from runyoro_ssl.logs import print_table
from runyoro_ssl.model.allocator import allow, fate_of_freed_memory
from runyoro_ssl.model.mps_faults import apple_chip, describe_faults
from runyoro_ssl.option import AUTO, as_typed
from runyoro_ssl.page.amounts import size
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.resolve import best_profile, list_profiles, load_config, profile_device
from runyoro_ssl.torchaudio_compat import torchaudio_form

if TYPE_CHECKING:
    from runyoro_ssl.model.memory import BatchSettings, Memory

LIBRARIES = (
    *("torch", "torchaudio", "transformers", "datasets", "accelerate", "soundfile", "soxr"),
    *("peft", "bitsandbytes", "wandb"),
)


@dataclass(frozen=True)
class Diagnosis:
    """Rows of each table: `fetched` of what was to be fetched, `memory` of a run that something was said of."""

    machine: list[list[str]]
    libraries: list[list[str]]
    profiles: list[list[str]]
    fetched: list[list[str]]
    memory: list[list[str]]
    model: str


@overload
def doctor(*, check: Literal[True], **given: Any) -> Checked: ...
@overload
def doctor(*, what_fits: Literal[True]) -> WhatFits: ...
@overload
def doctor(**given: Any) -> Diagnosis: ...
def doctor(**given: Any) -> Diagnosis | Checked | WhatFits:
    """Say what this machine is, what will work on it, and, with any option, what memory training needs.

    Args:
        **given: `fetch`, `model_name_or_path`, `profile`, `config`, `set`, and any setting of `model`, `adapter`,
            `hardware`, `masking`, `prepare` and `train`. `what_fits` alone. With `check` instead: `device`,
            `precision`, `size`, `minutes`, `json`, `profile`, `config`, `set`, and settings of `hardware`.

    Raises:
        RunyoroError: A setting that is wrong, a model that cannot be had, or a file that cannot be written.
    """
    own = own_options(DoctorOptions, given)
    if own.what_fits:
        return find_what_fits(given)
    if own.check:
        return check(given)
    refuse_check_options(given)
    fetch = own.fetch
    about_a_run = any(
        value not in (None, (), []) for name, value in given.items() if name not in DoctorOptions.model_fields
    )
    config = resolve("doctor", given) if about_a_run else Config()
    fetched = _fetch(config) if fetch else []
    memory = memory_rows(config) if about_a_run else []
    return Diagnosis(_machine(), _libraries(), _profiles(), fetched, memory, config.model.model_name_or_path)


def show(found: Diagnosis | Checked | WhatFits) -> None:
    """Print the tables. May end with the status of a check."""
    if isinstance(found, WhatFits):
        show_what_fits(found)
        return
    if isinstance(found, Checked):
        show_check(found)
        return
    print_table("Machine", ["what", "found"], found.machine)
    print_table("Libraries", ["what", "found"], found.libraries)
    print_table("Profiles", ["profile", "device", "works here"], found.profiles)
    if found.fetched:
        print_table(f"Base model {found.model}", ["what", "found"], found.fetched)
    if found.memory:
        print_table(f"Memory of training {found.model}", ["what", "bytes"], found.memory)


def _fetch(config: Config) -> list[list[str]]:
    """Fetch the base model, and say what there is of it now."""
    from runyoro_ssl.hub.place import amount
    from runyoro_ssl.model.source import base_folder, pin_base

    model = pin_base(config.model)
    folder = base_folder(model, "config", "extractor", "weights")
    num_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return [
        ["folder", str(folder)],
        ["revision", model.revision or "none: a folder of yours"],
        ["size", amount(num_bytes)],
        ["without a network", f"train with the same HF_HOME, or with --model-name-or-path {folder}"],
    ]


def _machine() -> list[list[str]]:
    import psutil

    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(Path.cwd())
    return [
        ["system", f"{platform.system()} {platform.release()}, {platform.machine()}"],
        ["cores", f"{psutil.cpu_count(logical=False) or os.cpu_count()}"],
        ["memory", f"{size(memory.total)}, {size(memory.available)} free"],
        ["disk", f"{size(disk.free)} free here"],
        *([device, _describe_device(device)] for device in available_devices()),
        *_mps_faults(),
        ["best profile", best_profile()],
    ]


def _describe_device(device: str) -> str:
    import torch

    from runyoro_ssl.model.precision import is_emulated

    if device == "cuda":
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        bf16 = "no units for bf16: fp16" if is_emulated(device, "bf16") else "bf16"
        return ", ".join(f"{gpu.name} {size(gpu.total_memory)}" for gpu in names) + f", {bf16}"
    if device == "mps":
        return f"Apple GPU, {size(torch.mps.recommended_max_memory())} recommended at most"
    bf16 = "bf16 emulated, far slower than fp32" if is_emulated(device, "bf16") else "bf16 native"
    return f"{torch.get_num_threads()} threads, {bf16}"


def _mps_faults() -> list[list[str]]:
    """Which of MPS's known faults this machine has, if it has MPS."""
    if "mps" not in available_devices():
        return []
    return [["faults of MPS", describe_faults(version("torch"), apple_chip())]]


def _libraries() -> list[list[str]]:
    import soundfile

    rows = [["python", platform.python_version()], ["runyoro_ssl", __version__]]
    for name in LIBRARIES:
        try:
            rows.append([name, version(name)])
        except PackageNotFoundError:
            rows.append([name, "not installed"])
    formats = [name for name in ("WAV", "FLAC", "MP3", "OGG") if name in soundfile.available_formats()]
    plugins = load_plugins(load_config())
    return [
        *rows,
        ["torchaudio loads", _explain_torchaudio()],
        ["audio formats", f"{', '.join(formats)} (libsndfile {soundfile.__libsndfile_version__})"],
        ["plugins", f"{len(plugins.plugins)} loaded; `invoke plugins` lists them"],
    ]


def memory_rows(config: Config) -> list[list[str]]:
    """Rows of what a training run of this configuration needs, what there is, and what to set if it does not fit.

    Raises:
        CheckpointError: The model's config.json or preprocessor_config.json cannot be had, or makes no model.
    """
    from runyoro_ssl.model.at_hand import look
    from runyoro_ssl.model.checks import extractor_doubts
    from runyoro_ssl.model.folder import check_folder
    from runyoro_ssl.model.load import UNREADABLE, load_model_config
    from runyoro_ssl.model.memory import BatchSettings, predict_memory
    from runyoro_ssl.model.source import CONFIG, base_folder, cannot_load, load_feature_extractor
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


def _explain_torchaudio() -> str:
    form = torchaudio_form()
    if form == "without its extension":
        return "without its extension, which is linked to CUDA: all that is used here works"
    return form


def _profiles() -> list[list[str]]:
    present = available_devices()
    return [
        [name, device := profile_device(path), "yes" if device in present else f"no: no {device} here"]
        for name, path in list_profiles().items()
    ]
