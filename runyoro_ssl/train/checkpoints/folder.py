"""The checkpoints of a run: which there are, which are intact and healthy, which may go."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from runyoro_ssl.disk.durable import MANIFEST, new_folder, remove_folder
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.source import RUN_FILE
from runyoro_ssl.train.checkpoints.format import PREFIX, cannot_be_read, checkpoint_of, load_state, verify_checkpoint
from runyoro_ssl.train.checkpoints.listing import (
    DAMAGED,
    NAME,
    SUPERSEDED,
    list_all,
    list_checkpoints,
    named,
    own_step,
)
from runyoro_ssl.train.health import journal

log = get_logger()


def runs_beside(output_dir: Path) -> list[Path]:
    """The folders of other runs in the folder that an output folder is in."""
    return sorted(path.parent for path in output_dir.parent.glob(f"*/{RUN_FILE}") if path.parent != output_dir)


def find_newest(output_dir: Path, *, set_aside: bool = True) -> Path | None:
    """The newest intact checkpoint, whatever its name, None if there is none at all.

    Damaged newer ones are set aside, unless not wanted.

    Raises:
        CheckpointError: There are checkpoints, and all are damaged; or a newer one cannot be read, or is a link that
            leads nowhere: nothing is known of it.
    """
    newest: tuple[int, Path] | None = None
    problems: list[tuple[int, Path, str]] = []
    for step, folder in reversed(list_all(output_dir)):
        if newest is not None and step <= newest[0]:
            break
        if folder.is_symlink() and not folder.exists():
            raise CheckpointError(
                f"{folder} is a link to {folder.readlink()}, which is not there; bring that back (is its disk "
                "mounted?), or, if it is lost, remove the link"
            )
        problem = verify_checkpoint(folder) or _why_not(folder, output_dir)
        if problem is not None:
            problems.append((step, folder, problem))
            continue
        own = own_step(folder)
        if newest is None or (step if own is None else own) > newest[0]:
            newest = (step if own is None else own), folder
    if newest is not None:
        _report_problems(problems, newest, set_aside=set_aside)
        return newest[1]
    if problems:
        found = "; ".join(f"{folder.name}: {why}" for _, folder, why in problems)
        raise CheckpointError(f"{output_dir}: no checkpoint is intact ({found}); start a new run with --output-dir")
    return None


def _report_problems(problems: list[tuple[int, Path, str]], newest: tuple[int, Path], *, set_aside: bool) -> None:
    """Say which newer checkpoints are of no use; rename them where the run itself had named them."""
    for step, folder, why in problems:
        own = NAME.fullmatch(folder.name) is not None
        aside = _set_aside(folder, DAMAGED) if set_aside and own else folder
        event = "checkpoint_damaged" if own else "checkpoint_passed_over"
        log.warning(event, path=str(aside), why=why, going_on_from=str(newest[1]), steps_lost=step - newest[0])


def _why_not(folder: Path, output_dir: Path) -> str | None:
    """Why a run does not go on from a checkpoint that has not the name it gave: it has gone back since, and left it."""
    if NAME.fullmatch(folder.name):
        return None
    health = load_state(folder).get("health", {})
    before = health.get("rollbacks", 0) if isinstance(health, dict) else 0
    since = max((event.get("rollbacks", 0) for event in journal.read(output_dir)), default=0)
    if type(before) is int and before >= since:
        return None
    return "is of a course that the run left when it went back; name it to --resume-from-checkpoint to take it"


def find_named(output_dir: Path, folder: Path) -> Path:
    """The checkpoint that the user names, after a check.

    Raises:
        CheckpointError: It is no checkpoint, or a file in it is missing or changed.
    """
    problem = verify_checkpoint(folder)
    if problem is None:
        return folder
    if folder.is_dir() and folder != output_dir and (inside := list_all(folder)):
        raise CheckpointError(f"{folder} is no checkpoint, but has some; give its newest: {inside[-1][1]}")
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
    """Whether a checkpoint was healthy when it was written. Raises CheckpointError where it may not be read."""
    try:
        return not load_state(folder)["concerns"]
    except (FileNotFoundError, KeyError, CheckpointError):  # damaged, or of another version
        return False
    except OSError as error:
        raise cannot_be_read(folder, error) from None


def bring_in(output_dir: Path, checkpoint: Path, step: int) -> None:
    """Copy a checkpoint to where a run has that of its step, if it is not there: one of another run, or renamed."""
    final = checkpoint_of(output_dir, step)
    if checkpoint.name == final.name and checkpoint.absolute().parent.resolve() == output_dir.resolve():
        return
    if final.is_dir() or final.is_symlink():
        if final.exists() and (final / MANIFEST).exists() and verify_checkpoint(final) is None:
            if (final / MANIFEST).read_bytes() == (checkpoint / MANIFEST).read_bytes():
                return
            _set_aside(final, SUPERSEDED)
        else:
            _set_aside(final, DAMAGED)
    with new_folder(final) as folder:
        for path in checkpoint.iterdir():
            if path.name != MANIFEST and path.is_file():
                shutil.copyfile(path, folder / path.name)
    log.info("checkpoint_brought_in", path=str(checkpoint), copied_to=str(final))


def set_aside_later(output_dir: Path, step: int) -> None:
    """Rename checkpoints past `step` to `superseded-checkpoint-<step>`: the run goes on from `step` without them."""
    for number, folder in named(output_dir):
        if number > step:
            _set_aside(folder, SUPERSEDED)


def prune_checkpoints(output_dir: Path, limit: int) -> None:
    """Remove the oldest checkpoints beyond `limit`; 0 keeps all.

    The best one never goes, nor the newest healthy one, to which the run would go back; nor the newest healthy one from
    before codes in use began to become fewer, to which it would go back if they went on so.

    Raises:
        CheckpointError: One of them may not be read: which are to be kept is not known.
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


def remove_old(output_dir: Path, limit: int) -> None:
    """Prune, and where that fails, say so: an old checkpoint that stays harms nothing."""
    try:
        prune_checkpoints(output_dir, limit)
    except (OSError, CheckpointError) as error:
        log.warning("old_checkpoints_kept", because=str(error), next_try="with the next checkpoint")


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
    if aside.is_symlink():
        aside.unlink()
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint, by its name."""
    return int(checkpoint.name.rpartition("-")[2])
