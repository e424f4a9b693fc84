"""The lock of a run's output folder: `run.lock`, and what is said of it."""

from __future__ import annotations

from pathlib import Path

from runyoro_ssl.disk.lock import FolderLock, Words
from runyoro_ssl.errors import TrainingError

LOCK = "run.lock"


def lock_run(output_dir: Path) -> FolderLock:
    """The lock that lets one run write into a folder."""
    if_lost = "Look at its checkpoints; if nothing else is training there, go on with --resume-from-checkpoint last"
    return FolderLock(output_dir / LOCK, Words("invoke train", output_dir, if_lost, TrainingError))
