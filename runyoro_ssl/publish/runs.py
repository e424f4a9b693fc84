"""The runs below a folder, as what lies in theirs says: settings, how far they are, held-out speech, state."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runyoro_ssl.config import Config
from runyoro_ssl.disk.lock import is_held
from runyoro_ssl.errors import CheckpointError, EvaluationError
from runyoro_ssl.evaluate.record import read_evaluation
from runyoro_ssl.model.source import RESULT_FILE, RUN_FILE
from runyoro_ssl.resolve import section_type
from runyoro_ssl.setting import deciding
from runyoro_ssl.small_files import read_object
from runyoro_ssl.train.checkpoints.format import PREFIX, load_state
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.run_lock import LOCK

BESIDE = ("model.model_name_or_path", "train.processed_dataset_path", "hardware.precision")
"""Settings that say what a run is, beside those that decide what is learned."""


@dataclass(frozen=True)
class RunRecord:
    """A run. `settings`: by `section.name`. `validations`: measures by name, of its `first`, `best` and `last` model.

    `total_steps` is None where it is not known, as before the first checkpoint.
    """

    folder: Path
    settings: Mapping[str, Any]
    state: str
    step: int = 0
    total_steps: int | None = None
    validations: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    dataset: str | None = None
    """The hash of its dataset's content, where a checkpoint tells."""

    @property
    def verdict(self) -> str | None:
        """What its evaluation says; None where there is none that can be read."""
        with suppress(EvaluationError):
            found = read_evaluation(self.folder)
            return found.verdict.kind if found else None
        return None


def find_runs(folder: Path) -> list[RunRecord]:
    """The runs in a folder and below it, by name."""
    return [read_run(path) for path in sorted(_folders(folder))]


def _folders(folder: Path) -> Iterator[Path]:
    """Folders that hold a run; what lies in a checkpoint is none."""
    if (folder / RUN_FILE).is_file():
        yield folder
    with suppress(OSError):  # a folder that may not be read
        for child in folder.iterdir():
            if child.is_dir() and not child.is_symlink() and PREFIX not in child.name:
                yield from _folders(child)


def read_run(folder: Path) -> RunRecord:
    """A run, by what lies in its folder. What is damaged is as if it were not there."""
    settings = _settings(folder)
    is_running = is_held(folder / LOCK)
    with suppress(OSError, ValueError, KeyError, TypeError):
        result = read_object(folder / RESULT_FILE)
        step = int(result["validations"]["last"]["step"])
        state = "running" if is_running else "finished" if step >= result["total_steps"] else "ended early"
        dataset = result.get("dataset_sha256")
        return RunRecord(folder, settings, state, step, result["total_steps"], result["validations"], dataset)
    for step, checkpoint in reversed(list_checkpoints(folder)):
        with suppress(OSError, ValueError, KeyError, CheckpointError):  # damaged, or of another version
            saved = load_state(checkpoint)
            state = "running" if is_running else _why_stopped(folder)
            dataset = saved["dataset_sha256"]
            return RunRecord(folder, settings, state, step, saved["total_steps"], saved["validations"], dataset)
    return RunRecord(folder, settings, "running" if is_running else "begun, nothing saved")


def _settings(folder: Path) -> dict[str, Any]:
    """Those of its run.toml that say what the run is, or decide what it learns."""
    defaults: dict[str, Any] = Config().model_dump(mode="json")
    try:
        read = read_object(folder / RUN_FILE)
    except (OSError, ValueError):
        return {}
    names = [f"{section}.{name}" for section in Config.model_fields for name in deciding("run", section_type(section))]
    found = {}
    for full in (*BESIDE, *names):
        section, name = full.split(".")
        found[full] = read.get(section, {}).get(name, defaults[section][name])
    return found


def _why_stopped(folder: Path) -> str:
    """Stopped from outside, or by an alarm."""
    last = (journal.read(folder) or [{}])[-1]
    return f"given up: {last.get('kind', 'an alarm')}" if last.get("action") == "stop" else "stopped"


def differing(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Settings that are not the same in all runs: the value in each, by name."""
    names = {name: None for run in runs for name in run.settings}
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: found for name, found in values.items() if any(one != found[0] for one in found)}


def usual(values: Sequence[Any]) -> Any:
    """The value that most have."""
    return json.loads(Counter(json.dumps(value) for value in values).most_common(1)[0][0])
