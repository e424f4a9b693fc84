"""The model of a finished run: that of its best healthy checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from runyoro_ssl import __version__
from runyoro_ssl.disk.durable import copy_file, replace_file
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.source import CONFIG, EXTRACTOR, WEIGHTS
from runyoro_ssl.redaction import redact
from runyoro_ssl.train.checkpoints.folder import find_healthy
from runyoro_ssl.train.checkpoints.format import checkpoint_of, load_state, verify_checkpoint
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.training_run import TrainingRun

log = get_logger()

RESULT = "result.json"
"""What the run came to, for the model card and for scripts: its validations, steps and hours."""
FILES = (CONFIG, EXTRACTOR, WEIGHTS)
"""The weights come last: while they are not there, the run has not finished."""


def save_final_model(run: TrainingRun) -> None:
    """Put the best checkpoint's model beside the checkpoints: lowest held-out loss, codebook in use.

    Raises:
        TrainingError: The disk is full, or cannot be written; the checkpoints are as they were.
    """
    output_dir = run.config.train.output_dir
    chosen = _choose(run)
    result = {
        "version": __version__,
        "checkpoint": chosen.name,
        "base_model": run.base_model,
        "base_revision": run.base_revision,
        "total_steps": run.total_steps,
        "train_hours": run.train_hours,
        "validations": run.watch.validations,
    }
    try:
        replace_file(output_dir / RESULT, json.dumps(redact(result), indent=2) + "\n")
        for name in FILES:
            copy_file(chosen / name, output_dir / name)
    except OSError as error:
        raise TrainingError(
            f"{output_dir}: the final model could not be written ({error}); {chosen} holds it: make room, then "
            "--resume-from-checkpoint last"
        ) from None
    log.info("final_model", path=str(output_dir), from_checkpoint=chosen.name)


def _choose(run: TrainingRun) -> Path:
    output_dir, validations = run.config.train.output_dir, run.watch.validations
    best, last = validations.get("best"), validations["last"]
    if best is not None:
        chosen = checkpoint_of(output_dir, int(best["step"]))
        problem = verify_checkpoint(chosen)
        if problem is None:
            if best["step"] != last["step"]:
                log.info("best_is_not_last", best_loss=best["eval/loss"], at=chosen.name, last_loss=last["eval/loss"])
            return chosen
        log.warning("best_checkpoint_lost", path=str(chosen), why=problem, instead="the newest healthy one")
    newest = find_healthy(output_dir)
    if newest is None:
        raise TrainingError(
            f"{output_dir}: no healthy checkpoint is left to make the final model of; {journal.NAME} says what went "
            "wrong: start a new run with half the --learning-rate"
        )
    validations["best"] = load_state(newest)["validations"]["last"]
    return newest
