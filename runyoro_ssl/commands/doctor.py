"""`doctor`: what this machine is, what will work on it, and what memory a training run needs."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, overload

from runyoro_ssl import __version__
from runyoro_ssl.commands.checking import Checked, check, refuse_check_options, show_check
from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.foreign import with_folder
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.needs import memory_rows
from runyoro_ssl.commands.own import DoctorOptions
from runyoro_ssl.commands.what_fits import WhatFits, find_what_fits, show_what_fits
from runyoro_ssl.config import Config
from runyoro_ssl.devices import available_devices
from runyoro_ssl.logs import print_table
from runyoro_ssl.model.mps_faults import apple_chip, describe_faults
from runyoro_ssl.page.amounts import size
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.resolve import best_profile, list_profiles, load_config, profile_device
from runyoro_ssl.torchaudio_compat import torchaudio_form

LIBRARIES = (
    *("torch", "torchaudio", "transformers", "datasets", "accelerate", "soundfile", "soxr"),
    *("peft", "bitsandbytes", "wandb"),
)


NEEDED_FOR = {
    "torchaudio": ", not needed",
    "peft": ": only --adapters lora needs it",
    "bitsandbytes": ": only train.optimizer=adamw-8bit needs it",
    "wandb": ": only its own logger needs it",
}
"""What lacks without a library."""
GPUS = {"cuda": "NVIDIA GPU", "mps": "Apple GPU"}
"""By the name of the device."""


@dataclass(frozen=True)
class Diagnosis:
    """Rows of each table: `fetched` of what was to be fetched, `memory` of a run that something was said of.

    `open_speech`: what the hub says of it, if that was asked.
    """

    machine: list[list[str]]
    libraries: list[list[str]]
    profiles: list[list[str]]
    fetched: list[list[str]]
    memory: list[list[str]]
    model: str
    open_speech: list[list[str]]


@overload
def doctor(*, check: Literal[True], **given: Any) -> Checked: ...
@overload
def doctor(*, what_fits: Literal[True]) -> WhatFits: ...
@overload
def doctor(**given: Any) -> Diagnosis: ...
def doctor(**given: Any) -> Diagnosis | Checked | WhatFits:
    """Say what this machine is, what will work on it, and, with any option, what memory training needs.

    Args:
        **given: `fetch`, `open_speech`, `model_name_or_path`, `profile`, `config`, `set`, and any setting of `model`,
            `adapter`, `hardware`, `masking`, `prepare` and `train`. `what_fits` alone. With `check` instead: `device`,
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
    config = with_folder(config, may_make=fetch)
    fetched = _fetch(config) if fetch else []
    memory = memory_rows(config) if about_a_run else []
    speech = _open_speech() if own.open_speech else []
    return Diagnosis(_machine(), _libraries(), _profiles(), fetched, memory, config.model.model_name_or_path, speech)


def show(found: Diagnosis | Checked | WhatFits, given: Mapping[str, Any]) -> None:
    """Print the tables, and what else may be asked. May end with the status of a check."""
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
    if found.open_speech:
        print_table("Open speech", ["dataset of the hub", "languages", "licence, as read", "now"], found.open_speech)
    if found.memory:
        print_table(f"Memory of training {found.model}", ["what", "bytes"], found.memory)
    profile = given.get("profile")
    about_a_run = command("doctor", profile=profile, model_name_or_path=found.model)
    close(
        then=[
            *([] if found.memory else [("see what training takes here", about_a_run)]),
            ("try the device, some minutes", command("doctor", profile=profile, check=True)),
            ("see what fits on other machines", command("doctor", what_fits=True)),
        ]
    )


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


def _open_speech() -> list[list[str]]:
    from runyoro_ssl.hub.open_speech import check_open_speech

    return check_open_speech()


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
            rows.append([name, f"not installed{NEEDED_FOR.get(name, '')}"])
    formats = [name for name in ("WAV", "FLAC", "MP3", "OGG") if name in soundfile.available_formats()]
    plugins = load_plugins(load_config())
    return [
        *rows,
        *_explain_torchaudio(),
        ["libsndfile", f"{soundfile.__libsndfile_version__}: {', '.join(formats)}"],
        ["FFmpeg, by PyAV", f"{version('av')}: all other audio, and the sound of videos"],
        ["plugins", f"{len(plugins.plugins)} loaded; `invoke plugins` lists them"],
    ]


def _explain_torchaudio() -> list[list[str]]:
    """Whether a torchaudio that somebody has installed stops plain transformers."""
    if torchaudio_form() != "without its extension":
        return []
    return [["torchaudio loads", "only here; plain `import transformers` fails with it: `pip uninstall torchaudio`"]]


def _profiles() -> list[list[str]]:
    present = available_devices()
    return [
        [
            name,
            device := profile_device(path),
            "yes" if device in present else f"no {GPUS.get(device, device)} here",
        ]
        for name, path in list_profiles().items()
    ]
