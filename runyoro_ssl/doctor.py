"""`invoke doctor`: what this machine is, and what will work on it."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runyoro_ssl import __version__
from runyoro_ssl.devices import available_devices, best_profile
from runyoro_ssl.logs import print_table
from runyoro_ssl.plugins import load_plugins
from runyoro_ssl.resolve import list_profiles, load_config, profile_device
from runyoro_ssl.torchaudio_compat import torchaudio_form

LIBRARIES = ("torch", "torchaudio", "transformers", "datasets", "accelerate", "soundfile", "soxr", "wandb")
GIB = 1 << 30


def run_doctor() -> None:
    """Print three tables: the machine, the libraries, the profiles."""
    print_table("Machine", ["what", "found"], _machine())
    print_table("Libraries", ["what", "found"], _libraries())
    print_table("Profiles", ["profile", "device", "works here"], _profiles())


def _machine() -> list[list[str]]:
    import psutil

    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(Path.cwd())
    return [
        ["system", f"{platform.system()} {platform.release()}, {platform.machine()}"],
        ["cores", f"{psutil.cpu_count(logical=False) or os.cpu_count()}"],
        ["memory", f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} free"],
        ["disk", f"{disk.free / GIB:.1f} GiB free here"],
        *([device, _describe_device(device)] for device in available_devices()),
        ["best profile", best_profile()],
    ]


def _describe_device(device: str) -> str:
    import torch

    if device == "cuda":
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: set hardware.precision=fp16"
        return ", ".join(f"{gpu.name} {gpu.total_memory / GIB:.0f} GiB" for gpu in names) + f", {bf16}"
    if device == "mps":
        return f"Apple GPU, {torch.mps.recommended_max_memory() / GIB:.1f} GiB recommended at most"
    return f"{torch.get_num_threads()} threads"


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
