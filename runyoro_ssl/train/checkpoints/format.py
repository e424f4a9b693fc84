"""The format of a checkpoint, written and read here: safetensors and JSON only, never a pickle.

A checkpoint is a folder any transformers code loads, and beside the model: `optimizer.safetensors` (AdamW moments by
parameter name, and the state of each process's random generators), `trainer_state.json`, and `MANIFEST.json`. Of a run
with adapters the model is the plain one, merged; what learns, from which the run goes on, is in `adapters.safetensors`.
A moving average of what learns is in `averages.safetensors`.
Where the model was sharded, each process has written its part of the moments (`shards`); both ways of training read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from runyoro_ssl import __version__
from runyoro_ssl.disk.durable import new_folder, verify
from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.machine import available_memory
from runyoro_ssl.model.adapters import trained_weights
from runyoro_ssl.model.merging import plain_weights
from runyoro_ssl.small_files import read_small
from runyoro_ssl.train.checkpoints.shards import (
    OPTIMIZER_SHARDS,
    has_parts,
    is_sharded,
    names_of_parts,
    part_on_host,
    read_parts,
    whole_on_host,
)
from runyoro_ssl.train.eight_bit import TENSORS, is_eight_bit
from runyoro_ssl.train.eight_bit import load_state as load_eight_bit

PREFIX = "checkpoint-"
STATE = "trainer_state.json"
OPTIMIZER = "optimizer.safetensors"
ADAPTERS = "adapters.safetensors"
AVERAGES = "averages.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
GENERATORS = "random."
FORMAT, SHARDED_FORMAT = 2, 3
"""Of trainer_state.json, and where moments are sharded; a checkpoint of another format is not resumed."""
FIRST_VERSIONS = "0.1.0 or before"
"""Versions that did not write their name into a checkpoint."""
RENAMED = {"eval/loss": "eval/objective", "eval/codevector_perplexity": "eval/hard_perplexity"}
"""Measures of a validation, by the names that version 0.1.0 gave them."""
NOT_FINITE = "some weights are no numbers"
"""The concern of a checkpoint whose model is of no use."""
SPARE_BYTES = 16 << 20
"""For JSON files, logs and the file system's own needs."""


@dataclass
class Snapshot:
    """All of a run that a checkpoint needs: tensors on the host, and JSON values.

    `is_copy`: the run may go on while this is written; otherwise the tensors are the run's own. `parts`: this process's
    part of the moments, where the model is sharded; the main process then has the weights.
    """

    step: int
    weights: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    state: dict[str, Any]
    is_copy: bool
    adapters: dict[str, torch.Tensor] = field(default_factory=dict)
    parts: dict[str, torch.Tensor] = field(default_factory=dict)
    averages: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes that the checkpoint takes on disk, parts of other processes included."""
        groups = (self.weights, self.moments, self.adapters, self.parts, self.averages)
        tensors = [tensor for group in groups for tensor in group.values()]
        return sum(tensor.nbytes for tensor in tensors) + SPARE_BYTES

    def is_finite(self) -> bool:
        """Whether every weight of the snapshot is a number."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.weights.values())


def take_snapshot(
    model: Any,
    optimizer: torch.optim.Optimizer,
    generators: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    averages: Mapping[str, torch.Tensor] | None = None,
) -> Snapshot:
    """A snapshot of the run as it is now; on a CPU a copy only if memory is plentiful, from a device always one."""
    (weights, merged), moments = plain_weights(model), _moments(model, optimizer)
    adapters = trained_weights(model) if merged else {}
    averages = averages or {}
    tensors = [*weights.values(), *merged.values(), *adapters.values(), *moments.values(), *averages.values()]
    on_host = all(tensor.device.type == "cpu" for tensor in tensors)  # merged ones always are
    size = sum(tensor.nbytes for tensor in tensors)
    copy = not on_host or available_memory() > 2 * size

    def on_the_host(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to("cpu", copy=copy).contiguous()

    return Snapshot(
        step=int(state["step"]),
        weights={name: on_the_host(tensor) for name, tensor in weights.items()} | merged,
        moments={name: on_the_host(tensor) for name, tensor in moments.items()}
        | {f"{GENERATORS}{name}": tensor for name, tensor in generators.items()},
        state=dict(state),
        is_copy=copy,
        adapters={name: on_the_host(tensor) for name, tensor in adapters.items()},
        averages={name: on_the_host(tensor) for name, tensor in averages.items()},
    )


def take_sharded_snapshot(
    model: Any,
    optimizer: torch.optim.Optimizer,
    generators: Mapping[str, torch.Tensor],
    state: Mapping[str, Any],
    averages: Mapping[str, torch.Tensor],
    *,
    is_main: bool,
) -> Snapshot:
    """A snapshot of a run whose model is sharded, always a copy. Every process calls it at the same point."""
    return Snapshot(
        step=int(state["step"]),
        weights=whole_on_host(model.state_dict(), keep=is_main),
        moments={f"{GENERATORS}{name}": tensor for name, tensor in generators.items()},
        state=dict(state),
        is_copy=True,
        parts={name: part_on_host(tensor) for name, tensor in _moments(model, optimizer).items()},
        averages=whole_on_host(averages, keep=is_main),
    )


def write_checkpoint(output_dir: Path, snapshot: Snapshot, model: Any, extractor: Any) -> Path:
    """Write `checkpoint-<step>`; it appears under its name only when complete and flushed to disk.

    Of `model` only its configuration is used. Raises OSError or SafetensorError; earlier checkpoints stay as they are.
    """
    final = checkpoint_of(output_dir, snapshot.step)
    with new_folder(final) as folder:
        write_files(folder, snapshot, model, extractor)
    return final


def write_files(folder: Path, snapshot: Snapshot, model: Any, extractor: Any) -> None:
    """Write into a folder what one process writes of a checkpoint: all but parts of moments."""
    model.save_pretrained(folder, state_dict=snapshot.weights, safe_serialization=True)
    extractor.save_pretrained(folder)
    save_file(snapshot.moments, folder / OPTIMIZER)
    if snapshot.adapters:
        save_file(snapshot.adapters, folder / ADAPTERS)
    if snapshot.averages:
        save_file(snapshot.averages, folder / AVERAGES)
    number = SHARDED_FORMAT if snapshot.parts else FORMAT
    state = {"format": number, "version": __version__, **snapshot.state}
    (folder / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")


def checkpoint_of(output_dir: Path, step: int) -> Path:
    """The folder of a step's checkpoint, whether it is there or not."""
    return output_dir / f"{PREFIX}{step}"


def verify_checkpoint(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None if it is intact.

    Raises:
        CheckpointError: It may not be read, or the disk or share that it is on fails: that is no damage.
    """
    try:
        return verify(folder, needs=(STATE,))
    except OSError as error:
        raise cannot_be_read(folder, error) from None


def cannot_be_read(folder: Path, error: OSError) -> CheckpointError:
    """The error for a checkpoint that was not seen, and of which nothing is known."""
    return CheckpointError(
        f"{error.filename or folder} cannot be read ({error.strerror}); that is no damage, and nothing was renamed: "
        "give yourself the right to read it, or see to the disk or share that it is on, and run again"
    )


def load_state(folder: Path) -> dict[str, Any]:
    """The content of trainer_state.json, of a verified checkpoint.

    Raises:
        CheckpointError: Another version of this toolkit wrote it, or something else did.
    """
    try:
        state = json.loads(read_small(folder / STATE))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / STATE} is no JSON ({error}); {other_checkpoint(folder)}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{folder / STATE} holds {type(state).__name__}, no object; {other_checkpoint(folder)}")
    if state.get("format") not in (FORMAT, SHARDED_FORMAT):
        raise written_otherwise(
            folder, state, f"it has format {state.get('format')!r}, this version reads {FORMAT} and {SHARDED_FORMAT}"
        )
    validations = state.get("validations", {})
    if not isinstance(validations, dict) or not all(isinstance(numbers, dict) for numbers in validations.values()):
        raise CheckpointError(f"{folder / STATE}: validations are no objects of numbers; {other_checkpoint(folder)}")
    if "validations" in state:
        state["validations"] = {
            kind: {RENAMED.get(name, name): value for name, value in numbers.items()}
            for kind, numbers in validations.items()
        }
    return state


def other_checkpoint(folder: Path) -> str:
    """What to do where a checkpoint is of no use, though it is as it was written."""
    return f"give another one to --resume-from-checkpoint, or start a new run with --model-name-or-path {folder}"


def written_otherwise(folder: Path, state: Mapping[str, Any], why: str) -> CheckpointError:
    """The error for a checkpoint of another version: which wrote it, and what to do."""
    return CheckpointError(
        f"{folder}: runyoro_ssl {state.get('version', FIRST_VERSIONS)} wrote it, this is {__version__}: {why}; resume "
        f"with the version that wrote it, or start a new run with --model-name-or-path {folder}"
    )


def load_optimizer(folder: Path, model: Any, optimizer: torch.optim.Optimizer, *, num_updates: int) -> None:
    """Restore the AdamW moments of every parameter; `num_updates` is its count of steps.

    Raises:
        CheckpointError: The moments do not cover the parameters being trained.
    """
    optimizer.state.clear()
    if num_updates == 0:
        return
    names = _names_in_order(model, optimizer)
    first = TENSORS[0] if is_eight_bit(optimizer) else MOMENTS[0]
    there = names_of_parts([folder / OPTIMIZER, *folder.glob(OPTIMIZER_SHARDS)])
    missing = [name for name in names if f"{first}.{name}" not in there]
    if missing:
        raise CheckpointError(
            f"{folder / OPTIMIZER}: no state for {len(missing)} trained parameters, e.g. {missing[0]}; "
            "resume with the freezing settings of the run"
        )
    parameters = _parameters_in_order(optimizer)
    tensors = _read_moments(folder, dict(zip(names, parameters, strict=True)))
    states = [{m: tensors[f"{m}.{name}"] for m in (*MOMENTS, *TENSORS) if f"{m}.{name}" in tensors} for name in names]
    if is_eight_bit(optimizer):
        for parameter, state in zip(parameters, states, strict=True):
            load_eight_bit(optimizer, parameter, state, num_updates=num_updates)
        return
    numbered = {index: {"step": torch.tensor(float(num_updates)), **state} for index, state in enumerate(states)}
    optimizer.load_state_dict({"state": numbered, "param_groups": optimizer.state_dict()["param_groups"]})


def _read_moments(folder: Path, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Read the moments of parameters, which may be sharded, from a checkpoint, which may have been."""
    if not any(map(is_sharded, parameters.values())) and not has_parts(folder):
        return load_file(folder / OPTIMIZER)
    moments = {
        f"{moment}.{name}": torch.zeros_like(parameter) for name, parameter in parameters.items() for moment in MOMENTS
    }
    read_parts(folder, moments)
    return moments


def load_generators(folder: Path) -> dict[str, torch.Tensor]:
    """The random states that `take_snapshot` was given as `generators`."""
    tensors = load_file(folder / OPTIMIZER)
    return {name.removeprefix(GENERATORS): value for name, value in tensors.items() if name.startswith(GENERATORS)}


def num_updates(optimizer: torch.optim.Optimizer) -> int:
    """Updates that AdamW has made, the same for every parameter: fewer than steps when some were skipped."""
    first = next(iter(optimizer.state.values()), None)
    return 0 if first is None else int(first["step"])


def _moments(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The moments of every weight that learns: with 8 bits also their scales. None before the first step."""
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for name, parameter in zip(_names_in_order(model, optimizer), _parameters_in_order(optimizer), strict=True)
        if parameter in optimizer.state
        for moment in (*MOMENTS, *TENSORS)
        if moment in optimizer.state[parameter]
    }


def _names_in_order(model: Any, optimizer: torch.optim.Optimizer) -> list[str]:
    """Parameter names in the optimizer's own order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in _parameters_in_order(optimizer)]


def _parameters_in_order(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
