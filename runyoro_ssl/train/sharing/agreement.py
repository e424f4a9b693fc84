"""What the processes of a run must have alike, on however many machines: settings, data, weights, the output folder."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from runyoro_ssl import __version__
from runyoro_ssl.disk.owner import Owner
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.processes import PATIENCE_SEC, gather_over_processes
from runyoro_ssl.train.run_lock import LOCK

NUM_SAMPLED = 1024
"""Values of each tensor by which weights are compared."""


def check_agreement(accelerator: Any, settings: Mapping[str, Any], datasets: Sequence[str], model: Any) -> None:
    """Refuse processes that would train something else than the main one. Every process calls it.

    `settings`: by name, those that must be alike; `datasets`: the digest of what each holds.

    Raises:
        ConfigError: Names the process, and what of it differs.
    """
    if accelerator.num_processes == 1:
        return
    mine = {
        "host": socket.gethostname(),
        "version of runyoro_ssl": __version__,
        **settings,
        "prepared dataset": ", ".join(sha256[:12] for sha256 in datasets),
        "model": digest(model.state_dict())[:12],
    }
    every: list[dict[str, Any]] = gather_over_processes(accelerator, mine)
    for process, theirs in enumerate(every):
        for name, ours in every[0].items():
            if name != "host" and theirs[name] != ours:
                raise ConfigError(
                    f"process {process} (on {theirs['host']}) and process 0 (on {every[0]['host']}) differ in {name}: "
                    f"{theirs[name]}, and {ours}; start all of them with the same command, on the same data and model"
                )


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, shapes, and of some values of each tensor, evenly spread."""
    found = hashlib.sha256()
    for name, tensor in weights.items():
        values = tensor.detach().flatten()
        some = values[:: max(1, len(values) // NUM_SAMPLED)].to("cpu", torch.float32)
        found.update(f"{name} {tuple(tensor.shape)}".encode() + some.numpy().tobytes())
    return found.hexdigest()


def check_folder_is_shared(output_dir: Path, accelerator: Any, *, patience_sec: float = PATIENCE_SEC) -> None:
    """Refuse an output folder that is another one on another machine. Every process calls it; the main one holds it.

    Raises:
        ConfigError: Some process does not see there that the main one has locked it.
    """
    holder: Owner = gather_over_processes(accelerator, Owner.here())[0]
    sees = accelerator.is_main_process or _sees(output_dir / LOCK, holder, patience_sec)
    blind = [host for host in gather_over_processes(accelerator, None if sees else socket.gethostname()) if host]
    if blind:
        raise ConfigError(
            f"{output_dir} is not one folder for all processes: {blind[0]} does not see there what {holder.host} "
            "wrote; give an --output-dir on a disk that all machines share"
        )


def _sees(lock: Path, holder: Owner, patience_sec: float) -> bool:
    end = time.monotonic() + patience_sec
    while True:
        try:
            if Owner.read(lock.read_bytes()) == holder:
                return True
        except OSError:  # not there, or not yet
            pass
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
