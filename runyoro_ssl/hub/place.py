"""Where what the hub gives is kept, and whether the hub can be asked."""

from __future__ import annotations

import os
import shutil
import socket
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from runyoro_ssl.errors import CheckpointError

CONNECT_SEC = 5.0


@cache
def hub_reachable() -> bool:
    """Whether the Hugging Face hub is worth asking: its client would find out in most of a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the client knows how to reach it
    address = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((str(address.hostname), address.port or 443), timeout=CONNECT_SEC):
            return True
    except OSError:
        return False


def cache_folder() -> Path:
    """The folder of the hub's cache, which all libraries of the hub share.

    Raises:
        CheckpointError: There is no home folder that it could lie in.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    if str(folder).startswith("~"):
        raise CheckpointError("no home folder to keep models in: set HF_HOME to a folder with some gigabytes of room")
    return folder


def repository_folder(name: str) -> Path:
    """The folder of a model in the cache."""
    return cache_folder() / f"models--{name.replace('/', '--')}"


def check_room(name: str, num_bytes: int) -> None:
    """See that the cache can be written, and has room for so many bytes.

    Raises:
        CheckpointError: It cannot, or has not.
    """
    place = nearest_folder(repository_folder(name))
    move = "or set HF_HOME to a folder on a disk that has it"
    if not os.access(place, os.W_OK | os.X_OK):
        raise CheckpointError(
            f'model "{name}" is not in the cache {cache_folder()}, which cannot be written to: have that changed, or '
            "set HF_HOME to a folder of your own"
        )
    if (free := shutil.disk_usage(place).free) < num_bytes:
        raise CheckpointError(
            f'model "{name}" needs {amount(num_bytes)} more in {cache_folder()}, and {amount(free)} are free there: '
            f"make room, {move}"
        )


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def amount(num_bytes: float) -> str:
    """Bytes as people say them: `1.27 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} bytes"
