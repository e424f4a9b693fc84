"""Checkpoints: written whole or not at all, checked when read. safetensors and JSON only, never a pickle.

A checkpoint is a folder any transformers code loads, and beside the model: `optimizer.safetensors` (AdamW moments by
parameter name), `trainer_state.json`, and `MANIFEST.json` (bytes and SHA-256 of every file).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from runyoro_ssl.errors import CheckpointError, TrainingError
from runyoro_ssl.train.model import save_pretrained

MANIFEST = "MANIFEST.json"
STATE = "trainer_state.json"
OPTIMIZER = "optimizer.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")


def save_checkpoint(
    output_dir: Path, model: Any, extractor: Any, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
) -> Path:
    """Write `checkpoint-<step>`; it appears under its name only when complete and flushed to disk.

    Raises:
        TrainingError: The disk is full, or cannot be written. Earlier checkpoints are as they were.
    """
    final = output_dir / f"checkpoint-{state['step']}"
    for stale in output_dir.glob(".tmp-checkpoint-*"):
        shutil.rmtree(stale)
    folder = output_dir / f".tmp-{final.name}"
    with explain_failed_write(final):
        try:
            folder.mkdir(parents=True)
            save_pretrained(model, extractor, folder)
            save_file(_optimizer_tensors(model, optimizer), folder / OPTIMIZER)
            (folder / STATE).write_text(json.dumps(dict(state), indent=2), encoding="utf-8")
            _seal(folder)
            folder.rename(final)
            _flush(output_dir)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return final


@contextmanager
def explain_failed_write(path: Path) -> Iterator[None]:
    """Turn what a full disk raises, OSError or safetensors' own error, into one line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path} could not be written ({error}); what was saved before is untouched: make room, "
            "then --resume-from-checkpoint last"
        ) from None


def prune_checkpoints(output_dir: Path, limit: int) -> None:
    """Remove the oldest checkpoints beyond `limit`; 0 keeps all."""
    if limit:
        for _, folder in list_checkpoints(output_dir)[:-limit]:
            shutil.rmtree(folder)


def set_aside_later(output_dir: Path, step: int) -> list[Path]:
    """Rename checkpoints past `step` to `superseded-checkpoint-<step>`: the run goes on from `step` without them."""
    moved = []
    for number, folder in list_checkpoints(output_dir):
        if number > step:
            aside = folder.with_name(f"superseded-{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            moved.append(folder.rename(aside))
    return moved


def list_checkpoints(output_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every complete checkpoint, by step."""
    found = []
    for folder in output_dir.glob("checkpoint-*"):
        number = folder.name.removeprefix("checkpoint-")
        if number.isdigit() and (folder / MANIFEST).is_file():
            found.append((int(number), folder))
    return sorted(found)


def find_checkpoint(output_dir: Path, wanted: str) -> Path | None:
    """The checkpoint to resume from: the newest for `last` (None if there is none), else the folder named.

    Raises:
        CheckpointError: The folder is no checkpoint, or a file in it is missing or changed.
    """
    if wanted == "last":
        checkpoints = list_checkpoints(output_dir)
        if not checkpoints:
            return None
        folder = checkpoints[-1][1]
    else:
        folder = Path(wanted)
    problem = verify_checkpoint(folder)
    if problem is not None:
        others = [str(path) for _, path in list_checkpoints(output_dir) if path != folder]
        advice = f"resume from {others[-1]}" if others else f"there is no other in {output_dir}; start a new run"
        raise CheckpointError(f"{folder}: {problem}; {advice}")
    return folder


def verify_checkpoint(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None: every file must have the bytes its manifest states."""
    if not folder.is_dir():
        return "no such checkpoint"
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return f"no readable {MANIFEST}: not a complete checkpoint of `invoke train`"
    for name, stated in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != stated["bytes"]:
            return f"{name} has {path.stat().st_size} bytes, {MANIFEST} says {stated['bytes']}"
        if _sha256(path) != stated["sha256"]:
            return f"{name} is damaged (its SHA-256 differs from {MANIFEST})"
    return None


def load_state(folder: Path) -> dict[str, Any]:
    """trainer_state.json of a verified checkpoint."""
    return json.loads((folder / STATE).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def load_optimizer(folder: Path, model: Any, optimizer: torch.optim.Optimizer, *, num_updates: int) -> None:
    """Restore the AdamW moments of every parameter; `num_updates` is its count of steps.

    Raises:
        CheckpointError: The moments do not cover the parameters being trained.
    """
    tensors = load_file(folder / OPTIMIZER)
    if num_updates == 0:
        return
    names = _names_in_order(model, optimizer)
    missing = [name for name in names if f"{MOMENTS[0]}.{name}" not in tensors]
    if missing:
        raise CheckpointError(
            f"{folder / OPTIMIZER}: no state for {len(missing)} trained parameters, e.g. {missing[0]}; "
            "resume with the freezing settings of the run"
        )
    state = {
        index: {"step": torch.tensor(float(num_updates)), **{m: tensors[f"{m}.{name}"] for m in MOMENTS}}
        for index, name in enumerate(names)
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _optimizer_tensors(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment].detach().cpu().contiguous()
        for name, parameter in zip(_names_in_order(model, optimizer), parameters, strict=True)
        for moment in MOMENTS
        if parameter in optimizer.state  # before the first update (fp16 may skip it) there is no state
    }


def _names_in_order(model: Any, optimizer: torch.optim.Optimizer) -> list[str]:
    """Parameter names in the optimizer's own order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _seal(folder: Path) -> None:
    """Flush every file and write the manifest over them."""
    files = {}
    for path in sorted(folder.iterdir()):
        _flush(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": files}, indent=2), encoding="utf-8")
    _flush(manifest)
    _flush(folder)


def _flush(path: Path) -> None:
    """Have the disk hold what was written to a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
