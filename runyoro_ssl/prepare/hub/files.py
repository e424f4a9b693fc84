"""The files of a split, fetched block by block: what has come of a file stays, and the next run asks for the rest.

The hub's own client begins a file anew in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from runyoro_ssl.bars import progress
from runyoro_ssl.disk.durable import sha256
from runyoro_ssl.errors import ManifestError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.prepare.hub.address import HubAddress

log = get_logger()

BLOCK_BYTES = 8 << 20
FILES_AT_ONCE = 8
FEW_FILES = 64
"""Up to so many come one after another: they are large, and a thread does not stop in the middle of one."""
REMOTE = "hf://datasets/"


def fetch_files(address: HubAddress, splits: Mapping[str, Sequence[str]], folder: Path) -> dict[str, list[str]]:
    """The files of each split on this machine: those that the hub's client has, or else fetched into the folder.

    Raises:
        ManifestError: A file came damaged.
        OSError and others: The connection broke, or the disk is full.
    """
    from huggingface_hub import HfFileSystem

    hub = HfFileSystem()
    if found := _in_cache(hub, splits):
        return found
    files = [file for split in splits.values() for file in split if file.startswith(REMOTE)]
    num_bytes = sum(hub.info(file)["size"] for file in files)
    log.info("fetching", dataset=str(address), files=len(files), megabytes=num_bytes // 1_000_000)
    with progress("MB") as bar, ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        task = bar.add_task(f"Fetching {address.name}", total=num_bytes // 1_000_000)
        fetch = partial(_fetch, address, hub, folder=folder, advance=lambda count: bar.advance(task, count / 1_000_000))
        apply = pool.map if len(files) > FEW_FILES else map
        return {name: list(apply(fetch, split)) for name, split in splits.items()}


def _in_cache(hub: Any, splits: Mapping[str, Sequence[str]]) -> dict[str, list[str]] | None:
    """Where the hub's client keeps the files, if it has every one: those of a folder must lie together."""
    from huggingface_hub import try_to_load_from_cache

    found: dict[str, list[str]] = {}
    for name, files in splits.items():
        found[name] = []
        for file in files:
            place = hub.resolve_path(file) if file.startswith(REMOTE) else None
            path = place and try_to_load_from_cache(
                place.repo_id, place.path_in_repo, revision=place.revision, repo_type="dataset"
            )
            if not isinstance(path, str):
                return None
            found[name].append(path)
    return found


def _fetch(address: HubAddress, hub: Any, file: str, *, folder: Path, advance: Callable[[int], None]) -> str:
    """The path of a file, fetched, or what is missing of it; one that is not of the hub is left where it is."""
    if not file.startswith(REMOTE):
        return file
    name, about = hub.resolve_path(file).path_in_repo, hub.info(file)
    path = folder / name
    part = path.with_name(f"{path.name}.part")
    if path.exists():
        advance(about["size"])
        return str(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with hub.open(file, "rb", block_size=BLOCK_BYTES, cache_type="none") as remote, part.open("ab") as local:
        advance(local.tell())
        remote.seek(local.tell())
        while block := remote.read(BLOCK_BYTES):
            local.write(block)
            advance(len(block))
    large = about.get("lfs")
    if part.stat().st_size != about["size"] or (large and sha256(part) != large["sha256"]):
        part.unlink()
        raise ManifestError(f"{address}: {name} came damaged, and is removed; run the same again")
    return str(part.replace(path))
