"""What of a base model must come from the hub before a run can start."""

from __future__ import annotations

from pathlib import Path

from runyoro_ssl.config import ModelConfig
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.hub.cached import cached_folder
from runyoro_ssl.hub.fetch import MAIN, hub_name
from runyoro_ssl.hub.known import KNOWN, pinned_revision
from runyoro_ssl.hub.place import cache_folder
from runyoro_ssl.train.disk_space import Need


def missing_download(model: ModelConfig) -> Need | None:
    """What must be fetched; None for a folder, for what is in the cache, and for what is no name on the hub."""
    if Path(model.model_name_or_path).exists():
        return None
    try:
        name = hub_name(model.model_name_or_path)
    except CheckpointError:  # whoever loads it says what is wrong
        return None
    revision = model.revision or pinned_revision(name) or MAIN
    if cached_folder(name, revision, ("config", "extractor", "weights")):
        return None
    known = KNOWN[name].num_bytes if name in KNOWN else None
    return Need(f"download of {name}", cache_folder(), known)
