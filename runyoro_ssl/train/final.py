"""The model of a finished run: that of its best healthy checkpoint; a run that trained always leaves one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runyoro_ssl import __version__
from runyoro_ssl.dataset.layout import HUB_DATASET
from runyoro_ssl.dataset.material import describe_material, describe_together
from runyoro_ssl.disk.durable import copy_file, replace_file
from runyoro_ssl.errors import TrainingError
from runyoro_ssl.foreign.note import origin_of
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.counts import count_trained
from runyoro_ssl.model.source import CONFIG, EXTRACTOR, RESULT_FILE, WEIGHTS
from runyoro_ssl.redaction import redact
from runyoro_ssl.train.checkpoints.folder import find_healthy, step_of
from runyoro_ssl.train.checkpoints.format import NOT_FINITE, checkpoint_of, load_state, verify_checkpoint
from runyoro_ssl.train.checkpoints.listing import list_checkpoints
from runyoro_ssl.train.health import journal
from runyoro_ssl.train.keeping import kept_model, num_compared
from runyoro_ssl.train.training_run import TrainingRun

log = get_logger()

FILES = (CONFIG, EXTRACTOR, WEIGHTS)
"""The weights come last: while they are not there, the run has not finished."""


def save_final_model(run: TrainingRun, is_stopped: Callable[[], bool] = lambda: False) -> str:
    """Put the best checkpoint's model beside the checkpoints: lowest held-out loss, codebook in use. Returns its name.

    Where held-out speech could not be judged, it is that of the last one. Where means and mixtures are asked for, it is
    there first, and gives its place to one that is better: a kill meanwhile costs that alone, and so does `is_stopped`,
    which is asked for each clip that is heard.

    Raises:
        TrainingError: The disk is full, or cannot be written; the checkpoints are as they were.
    """
    output_dir, chosen = run.config.train.output_dir, _choose(run)
    result = _result(run, chosen)
    with _explained(output_dir, chosen):
        _write(output_dir, result, model=chosen)
    log.info("final_model", path=str(output_dir), from_checkpoint=chosen.name)
    if not num_compared(run.config.train):
        return chosen.name
    with kept_model(run, chosen, is_stopped) as kept, _explained(output_dir, chosen):
        if kept is None:
            return chosen.name
        result["final_model"] = {
            "name": kept.option.name,
            "kind": kept.option.kind,
            "why": kept.why,
            "candidates": [asdict(one) for one in kept.candidates],
        }
        if kept.folder == chosen:  # it is there
            _write(output_dir, result)
        else:
            run.watch.validations["best"] = {**kept.numbers}
            _write(output_dir, {**result, "validations": _in_json(run.watch.validations)}, model=kept.folder)
    log.info("final_model_chosen", name=kept.option.name, of=len(kept.candidates), because=kept.why)
    return kept.option.name


def _result(run: TrainingRun, chosen: Path) -> dict[str, Any]:
    """The content of result.json."""
    parameters, trained = count_trained(run.model)
    origin = origin_of(Path(run.base_model))
    return {
        "version": __version__,
        "checkpoint": chosen.name,
        "base_model": origin.model if origin else run.base_model,
        "base_revision": origin.revision if origin else run.base_revision,
        "parameters": parameters,
        "trained_parameters": sum(trained),
        "total_steps": run.total_steps,
        "dataset_sha256": run.contents[0],
        "train_hours": run.train_hours,
        "sources": _sources(run),
        "material": describe_together(run.sources.folders),
        "validations": _in_json(run.watch.validations),
    }


def _write(output_dir: Path, result: Mapping[str, Any], *, model: Path | None = None) -> None:
    """Write result.json; and the model that lies in a folder, if it is not there."""
    replace_file(output_dir / RESULT_FILE, json.dumps(redact(result), indent=2) + "\n")
    if model is not None:
        for name in FILES:
            copy_file(model / name, output_dir / name)


@contextmanager
def _explained(output_dir: Path, checkpoint: Path) -> Iterator[None]:
    """Say of a disk that is full, or fails, what holds the model."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{output_dir}: the final model could not be written ({error}); {checkpoint} holds it: make room, then "
            "--resume-from-checkpoint last"
        ) from None


def _sources(run: TrainingRun) -> list[dict[str, Any]]:
    """The datasets of a run on several, the target first: share asked for, hours there are, hours heard by its end."""
    if not run.sources.others:
        return []
    heard = run.hours_heard()
    return [
        {
            "name": source.name,
            "role": source.role,
            "share": share,
            "hours": source.seconds / 3600,
            "hours_heard": heard.get(f"train/hours/{source.name}", 0.0),
            "dataset_sha256": sha256,
            HUB_DATASET: (describe_material(source.setting.path) or {}).get(HUB_DATASET),
        }
        for source, share, sha256 in zip(run.sources.every, run.sources.shares, run.contents, strict=True)
    ]


def _choose(run: TrainingRun) -> Path:
    """The checkpoint of the final model: the best, else the newest that was healthy, else the newest of numbers."""
    output_dir, validations = run.config.train.output_dir, run.watch.validations
    best, last = validations.get("best"), validations["last"]
    if best is not None:
        chosen = checkpoint_of(output_dir, int(best["step"]))
        problem = verify_checkpoint(chosen)
        if problem is None:
            if best["step"] != last["step"]:
                log.info("best_is_not_last", best=best["eval/objective"], at=chosen.name, last=last["eval/objective"])
            return chosen
        log.warning("best_checkpoint_lost", path=str(chosen), why=problem, instead="the newest healthy one")
    chosen = find_healthy(output_dir) or _newest_of_numbers(output_dir)
    validations["best"] = _measured(chosen, last)
    if best is None:
        log.warning("no_best_model", because=_why_none(last), final_model=f"the last one: {chosen.name}")
    return chosen


def _newest_of_numbers(output_dir: Path) -> Path:
    """The newest intact checkpoint whose weights are numbers, though none was healthy."""
    for _, folder in reversed(list_checkpoints(output_dir)):
        if verify_checkpoint(folder) is None and NOT_FINITE not in (concerns := load_state(folder)["concerns"]):
            log.warning("final_model_not_healthy", path=str(folder), because="; ".join(concerns))
            return folder
    raise TrainingError(
        f"{output_dir}: no intact checkpoint is left to make the final model of; {journal.NAME} says what went wrong: "
        "start a new run with half the --learning-rate"
    )


def _measured(checkpoint: Path, last: Mapping[str, float]) -> dict[str, float]:
    """The validation of a checkpoint's model; no numbers, if there was none at its step."""
    step = step_of(checkpoint)
    found: dict[str, float] = load_state(checkpoint)["validations"].get("last", {})
    return found if found.get("step") == step else {**dict.fromkeys(last, math.nan), "step": step}


def _why_none(last: Mapping[str, float]) -> str:
    if not math.isfinite(last["eval/objective"]):
        return "held-out speech could not be judged: no clip of it could be read and masked, or its loss was no number"
    return "in each validation the codebooks had collapsed"


def _in_json(validations: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """The validations as JSON can hold them: what is no number is null."""
    return {
        kind: {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        for kind, numbers in validations.items()
    }
