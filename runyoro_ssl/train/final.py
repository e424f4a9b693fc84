"""The model of a finished run: its best healthy checkpoint, and the card beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runyoro_ssl.disk.durable import copy_file
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.publish.card import write_model_card
from runyoro_ssl.train.checkpoints.folder import checkpoint_of, find_healthy
from runyoro_ssl.train.checkpoints.format import load_state, verify_checkpoint

if TYPE_CHECKING:
    from runyoro_ssl.train.training_run import TrainingRun

log = get_logger()

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
"""The weights come last: while they are not there, the run has not finished."""


def save_final_model(run: TrainingRun) -> None:
    """Put the best checkpoint's model beside the checkpoints: lowest held-out loss, codebook in use.

    Raises:
        TrainingError: The disk is full, or cannot be written; the checkpoints are as they were.
    """
    output_dir = run.config.train.output_dir
    chosen = _choose(run)
    try:
        for name in FILES:
            copy_file(chosen / name, output_dir / name)
        write_model_card(run)
    except OSError as error:
        raise TrainingError(
            f"{output_dir}: the final model could not be written ({error}); {chosen} holds it: make room, then "
            "--resume-from-checkpoint last"
        ) from None
    log.info("final_model", path=str(output_dir), from_checkpoint=chosen.name)


def _choose(run: TrainingRun) -> Path:
    output_dir, best, last = run.config.train.output_dir, run.validations.get("best"), run.validations["last"]
    if best is not None:
        chosen = checkpoint_of(output_dir, int(best["step"]))
        problem = verify_checkpoint(chosen)
        if problem is None:
            if best["step"] != last["step"]:
                log.info("best_is_not_last", best_loss=best["eval/loss"], at=chosen.name, last_loss=last["eval/loss"])
            return chosen
        log.warning("best_checkpoint_lost", path=str(chosen), why=problem, instead="the newest healthy one")
    newest = find_healthy(output_dir)
    if newest is not None:
        run.validations["best"] = load_state(newest)["validations"]["last"]
    else:
        raise TrainingError(
            f"{output_dir}: no healthy checkpoint is left to make the final model of; journal.jsonl says what went "
            "wrong: start a new run with half the --learning-rate"
        )
    return newest
