"""What lies in a run's folder, gathered for its page. What is damaged is as if it were not there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runyoro_ssl.hub.known import KNOWN
from runyoro_ssl.model.source import RESULT_FILE, RUN_FILE
from runyoro_ssl.publish.facts import LOCAL_BASE
from runyoro_ssl.publish.report.events import Course, planned_steps, read_course
from runyoro_ssl.publish.report.logged import Logged, last_step, read_logged
from runyoro_ssl.publish.runs import RunRecord, read_run
from runyoro_ssl.small_files import read_object


@dataclass(frozen=True)
class FoundRun:
    """A run by what lies in its folder.

    Attributes:
        folder: Where it is; its last name is the run's.
        settings: run.toml.
        result: result.json; empty before the end.
        record: Its state, steps and validations.
        logged: Its curves.
        course: What happened to it.
        step: The last step of which anything is known.
        total_steps: How many it has; None where it is not known.
    """

    folder: Path
    settings: Mapping[str, Any]
    result: Mapping[str, Any]
    record: RunRecord
    logged: Logged
    course: Course
    step: int
    total_steps: int | None
    base: str = field(default=LOCAL_BASE)

    @property
    def is_over(self) -> bool:
        """Its final model is there, and no later step was taken."""
        last = self.result.get("validations", {}).get("last", {}).get("step")
        return last is not None and last >= last_step(self.logged)

    @property
    def is_running(self) -> bool:
        """A process works on it now."""
        return not self.is_over and self.record.state == "running"

    @property
    def language(self) -> str:
        """The name of its language."""
        return str(self.settings.get("train", {}).get("language", ""))

    def validation(self, which: str) -> Mapping[str, float | None]:
        """The numbers of its first, best or last validation."""
        return self.record.validations.get(which, {})

    @property
    def best_step(self) -> int | None:
        """The step of the best model so far."""
        step = self.validation("best").get("step")
        return None if step is None else int(step)


def find_run(folder: Path) -> FoundRun | None:
    """Read a run's folder; None where there is no run, as with a model that comes from elsewhere."""
    settings = _read(folder / RUN_FILE)
    logged = read_logged(folder)
    if not settings and not logged:
        return None
    record = read_run(folder)
    step = max(last_step(logged), record.step)
    total_steps = planned_steps(folder) or record.total_steps
    result = _read(folder / RESULT_FILE)
    return FoundRun(
        *(folder, settings, result, record, logged, read_course(folder), step, total_steps),
        base=_base(settings, result),
    )


def _base(settings: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """The public name of the model that the run began from."""
    if result.get("base_revision"):
        return str(result["base_model"])
    named = str(settings.get("model", {}).get("model_name_or_path", ""))
    return named if named in KNOWN else LOCAL_BASE


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return read_object(path)
    return {}
