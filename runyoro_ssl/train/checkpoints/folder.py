"""The checkpoints of a run: which there are, which are intact and healthy, which may go."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from runyoro_ssl.disk.durable import MANIFEST, new_folder, remove_folder
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.source import RUN_FILE
from runyoro_ssl.train.checkpoints.format import PREFIX, load_state, verify_checkpoint

log = get_logger()

SUPERSEDED = "superseded-"
"""Checkpoints of a course that the run left; removed when space is short."""
DAMAGED = "damaged-"


def list_checkpoints(output_dir: Path) -> list[tuple[int, Path]]:
    """Every checkpoint of a run as (step, folder), by step."""
    found = []
    for folder in output_dir.glob(f"{PREFIX}*"):
        number = folder.name.removeprefix(PREFIX)
        if number.isdigit() and folder.is_dir():
            found.append((int(number), folder))
    return sorted(found)


def runs_beside(output_dir: Path) -> list[Path]:
    """The folders of other runs in the folder that an output folder is in."""
    return sorted(path.parent for path in output_dir.parent.glob(f"*/{RUN_FILE}") if path.parent != output_dir)


def find_newest(output_dir: Path, *, set_aside: bool = True) -> Path | None:
    """The newest intact checkpoint, None if there is none at all; damaged newer ones are set aside, unless not wanted.

    Raises:
        CheckpointError: There are checkpoints, and all are damaged.
    """
    checkpoints = list_checkpoints(output_dir)
    problems: list[tuple[int, Path, str]] = []
    for step, folder in reversed(checkpoints):
        problem = verify_checkpoint(folder)
        if problem is None:
            for damaged_step, damaged, why in problems:
                aside = _set_aside(damaged, DAMAGED) if set_aside else damaged
                log.warning(
                    "checkpoint_damaged", path=str(aside), why=why, going_on_from=str(folder),
                    steps_lost=damaged_step - step,
                )  # fmt: skip
            return folder
        problems.append((step, folder, problem))
    if problems:
        found = "; ".join(f"{folder.name}: {why}" for _, folder, why in problems)
        raise CheckpointError(f"{output_dir}: no checkpoint is intact ({found}); start a new run with --output-dir")
    return None


def find_named(output_dir: Path, folder: Path) -> Path:
    """The checkpoint that the user names, after a check.

    Raises:
        CheckpointError: It is no checkpoint, or a file in it is missing or changed.
    """
    problem = verify_checkpoint(folder)
    if problem is None:
        return folder
    others = [path for _, path in reversed(list_checkpoints(output_dir)) if path.resolve() != folder.resolve()]
    intact = next((path for path in others if verify_checkpoint(path) is None), None)
    advice = f"resume from {intact}" if intact else f"there is no intact one in {output_dir}; start a new run"
    raise CheckpointError(f"{folder}: {problem}; {advice}")


def find_healthy(output_dir: Path, *, at_most: int | None = None) -> Path | None:
    """The newest checkpoint that is intact, and was healthy when it was written; None if there is none.

    `at_most`: the last step that it may be of, where later ones are known to be no better.
    """
    for step, folder in reversed(list_checkpoints(output_dir)):
        if (at_most is None or step <= at_most) and _was_healthy(folder) and verify_checkpoint(folder) is None:
            return folder
    return None


def _was_healthy(folder: Path) -> bool:
    try:
        return not load_state(folder)["concerns"]
    except (OSError, ValueError, KeyError, CheckpointError):  # damaged, or of another version
        return False


def bring_in(output_dir: Path, checkpoint: Path) -> None:
    """Copy a checkpoint of another run into the folder of the run that begins with it: it is that run's first."""
    if checkpoint.resolve().parent != output_dir.resolve():
        with new_folder(output_dir / checkpoint.name) as folder:
            for path in checkpoint.iterdir():
                if path.name != MANIFEST:
                    shutil.copyfile(path, folder / path.name)


def set_aside_later(output_dir: Path, step: int) -> None:
    """Rename checkpoints past `step` to `superseded-checkpoint-<step>`: the run goes on from `step` without them."""
    for number, folder in list_checkpoints(output_dir):
        if number > step:
            _set_aside(folder, SUPERSEDED)


def prune_checkpoints(output_dir: Path, limit: int) -> None:
    """Remove the oldest checkpoints beyond `limit`; 0 keeps all.

    The best one never goes, nor the newest healthy one, to which the run would go back; nor the newest healthy one from
    before codes in use began to become fewer, to which it would go back if they went on so.
    """
    checkpoints = list_checkpoints(output_dir)
    if not limit or not checkpoints:
        return
    healthy = [step for step, folder in checkpoints if _was_healthy(folder)]
    behind = _fall_began(checkpoints)
    kept = {_best_step(checkpoints), *healthy[-1:], *[step for step in healthy if step <= behind][-1:]}
    for step, folder in checkpoints[:-limit]:
        if step not in kept:
            remove_folder(folder)


def _fall_began(checkpoints: list[tuple[int, Path]]) -> int:
    """The step after which codes in use began to become fewer, as the newest checkpoint knows it; else its own."""
    step, folder = checkpoints[-1]
    with suppress(OSError, ValueError, KeyError, CheckpointError):  # damaged, or of another version
        behind = load_state(folder)["health"].get("behind")
        return step if behind is None else int(behind)
    return step


def _best_step(checkpoints: list[tuple[int, Path]]) -> int | None:
    """The step of the best checkpoint there is: newer ones know better, but the save of theirs may have failed."""
    steps = {step for step, _ in checkpoints}
    for _, folder in reversed(checkpoints):
        with suppress(OSError, ValueError, CheckpointError):  # damaged, or of another version
            best = load_state(folder).get("validations", {}).get("best")
            if best is not None and best["step"] in steps:
                return int(best["step"])
    return None


def remove_superseded(output_dir: Path) -> list[str]:
    """Remove the checkpoints of courses that the run left, to make room. Returns their names."""
    gone = sorted(output_dir.glob(f"{SUPERSEDED}{PREFIX}*"))
    for folder in gone:
        remove_folder(folder)
    return [folder.name for folder in gone]


def _set_aside(folder: Path, prefix: str) -> Path:
    aside = folder.with_name(f"{prefix}{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def checkpoint_of(output_dir: Path, step: int) -> Path:
    """The folder of a step's checkpoint, whether it is there or not."""
    return output_dir / f"{PREFIX}{step}"


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint, by its name."""
    return int(checkpoint.name.rpartition("-")[2])
