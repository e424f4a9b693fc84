"""The disk that a run needs against what is free: not one checkpoint fits, not all of them, or all is well."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runyoro_ssl.errors import TrainingError
from runyoro_ssl.hub.place import nearest_folder
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.activations import FP32
from runyoro_ssl.model.counts import count_trained, state_bytes
from runyoro_ssl.page.amounts import plural, size
from runyoro_ssl.processes import gather_over_processes
from runyoro_ssl.train.checkpoints.format import PREFIX, SPARE_BYTES
from runyoro_ssl.train.checkpoints.listing import SUPERSEDED, list_checkpoints
from runyoro_ssl.train.intervals import Intervals
from runyoro_ssl.train.training_run import TrainingRun

log = get_logger()


@dataclass(frozen=True)
class Need:
    """What will be written: in words, where, and bytes; None: not known."""

    what: str
    folder: Path
    num_bytes: int | None

    def words(self) -> str:
        """What it is, and how large."""
        return f"{self.what}: {'size not known' if self.num_bytes is None else size(self.num_bytes)}"


@dataclass(frozen=True)
class Disk:
    """A disk: a folder on it, what a run will write there, and the bytes that are free."""

    folder: Path
    needs: tuple[Need, ...]
    free: int

    @property
    def needed(self) -> int:
        """Bytes of what is known."""
        return sum(need.num_bytes or 0 for need in self.needs)

    def words(self) -> str:
        """What is needed of what is free."""
        listed = "; ".join(need.words() for need in self.needs)
        return f"{size(self.needed)} of {size(self.free)} free: {listed}"

    def problem(self) -> str | None:
        """In a line why it cannot hold all that, and what to do; None if it can."""
        if self.needed <= self.free:
            return None
        return f"the disk of {self.folder} cannot hold it: {self.words()}; make room"


@dataclass(frozen=True)
class CheckpointSpace:
    """The space of a run's checkpoints and final model, in bytes. `at_most`: checkpoints that stand there at once."""

    output_dir: Path
    weights: int
    checkpoint: int
    at_most: int
    limit: int
    existing: int
    """Of checkpoints that are there: they make room for later ones."""
    superseded: int
    """Of checkpoints that go when space is short."""
    compared: int = 0
    """Of models that are there while the final one is chosen."""

    @classmethod
    def of(cls, run: TrainingRun, *, by_clock: int = 0) -> CheckpointSpace:
        """The space of a run from where it is. `by_clock`: checkpoints that come by the clock alone, where known."""
        config = run.config.train
        weights, learned = _bytes_of_weights(run)
        number = max(num_checkpoints(Intervals.of(run), run.step), by_clock)
        # The best and one being written, besides those that are kept.
        at_most = min(number, config.save_total_limit + 2) if config.save_total_limit else number
        return cls(
            output_dir=config.output_dir,
            weights=weights,
            checkpoint=weights + learned,
            at_most=at_most,
            limit=config.save_total_limit,
            existing=sum(folder_bytes(folder) for _, folder in list_checkpoints(config.output_dir)),
            superseded=sum(map(folder_bytes, config.output_dir.glob(f"{SUPERSEDED}{PREFIX}*"))),
            compared=weights * ((config.ema_decay is not None) + bool(config.average_last or config.interpolate)),
        )

    @property
    def free(self) -> int:
        """Bytes that are free, or will be when they are needed."""
        return free_bytes(self.output_dir) + self.superseded

    def needs(self) -> list[Need]:
        """What will be written, beyond what is there."""
        more = max(self.at_most * self.checkpoint - self.existing, min(self.at_most, 1) * self.checkpoint)
        kept = "all are kept" if not self.limit else "those kept, the best, one being written"
        what = f"{plural(self.at_most, 'checkpoint')} of {size(self.checkpoint)} ({kept})"
        return [
            Need(what, self.output_dir, more),
            Need("final model", self.output_dir, self.weights),
            *([Need("models compared with it", self.output_dir, self.compared)] if self.compared else []),
            Need("to spare", self.output_dir, SPARE_BYTES),
        ]


def _bytes_of_weights(run: TrainingRun) -> tuple[int, int]:
    """Bytes that a checkpoint has of the model, and of what learns: its moments, adapters once more, an average."""
    parameters, trained = count_trained(run.model)
    times = (run.base_sha256 is not None) + (run.average is not None)
    return FP32 * parameters, times * FP32 * sum(trained) + state_bytes(trained, run.config.train.optimizer)


def num_checkpoints(intervals: Intervals, step: int) -> int:
    """Checkpoints that may follow after a step: by steps, and where a validation finds a new best."""
    by_steps = intervals.num_checkpoints(step)
    return by_steps if intervals.validate % intervals.save == 0 else by_steps + intervals.num_validations(step)


def check_space(run: TrainingRun) -> None:
    """Check, before anything is written, that the disk can hold what the run saves; every process calls it.

    Raises:
        TrainingError: Not one checkpoint fits: all that is learned would be lost. Where only some fit, one warning.
    """
    problem = _problem(run) if run.accelerator.is_main_process else None
    if problem := gather_over_processes(run.accelerator, problem)[0]:
        raise TrainingError(problem)


def _problem(run: TrainingRun) -> str | None:
    space = CheckpointSpace.of(run)
    one = min(space.at_most, 1) * space.checkpoint + space.weights
    if space.free < one:
        return (
            f"{space.output_dir}: a checkpoint of this model takes {size(space.checkpoint)} and its final model "
            f"{size(space.weights)}, the disk has {size(space.free)} free: make room, or give another --output-dir"
        )
    (disk,) = disks(space.needs(), reclaimed=space.superseded)
    if disk.needed > disk.free:
        log.warning(
            "disk_may_fill",
            needed=disk.words(),
            advice="make room, a lower --save-total-limit, or another --output-dir",
        )
    return None


def disks(needs: Sequence[Need], *, reclaimed: int = 0) -> list[Disk]:
    """What is needed on each disk, in order; `reclaimed`: bytes that the first of them will have free besides."""
    found: dict[int, list[Need]] = {}
    for need in needs:
        found.setdefault(nearest_folder(need.folder).stat().st_dev, []).append(need)
    extra = [reclaimed, *[0] * len(found)]
    return [
        Disk(group[0].folder, tuple(group), free_bytes(group[0].folder) + more)
        for group, more in zip(found.values(), extra, strict=False)
    ]


def free_bytes(folder: Path) -> int:
    """Bytes free for a folder that may not exist yet."""
    return shutil.disk_usage(nearest_folder(folder)).free


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
