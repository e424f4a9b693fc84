"""The settings of which plugins are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runyoro_ssl.setting import Section, setting


class PluginsConfig(Section):
    """What is used, in order. Loading a plugin does not enable it; naming it here does."""

    dir: Path = setting(Path("plugins"), decides="nothing")
    """Folder of the project's own plugins (`runyoro_*.py`)."""
    built_in_only: bool = setting(default=False, decides="nothing", flag_of="prepare train plugins", flag="no_plugins")
    """Load no plugin but the built-in ones."""
    filters: tuple[str, ...] = setting(("duration", "silence", "clipping", "duplicates"), decides="clips")
    """Filters of `prepare`."""
    augmentations: tuple[str, ...] = setting((), decides="run")
    """Augmentations of the training clips."""
    collator: str = setting("padded", decides="run")
    """What makes a batch of clips."""
    loggers: tuple[str, ...] = setting(("console", "jsonl", "tensorboard"), decides="nothing")
    """Where the numbers of a run go."""
    options: dict[str, dict[str, Any]] = setting({}, decides=("clips", "run"))
    """Options by name: `plugins.options.silence.threshold_dbfs = -55`."""
