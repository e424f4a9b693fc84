"""Checkpoints of a sharded model: its parts on the host, written and read by torch.distributed.checkpoint.

Every process writes its part of the AdamW moments, as safetensors: `optimizer-00001-of-00004.safetensors` holds slices
of tensors and says where they belong. Any number of processes reads from these files what it needs, be it slices or
whole tensors. Weights are gathered: they are a third of it, and the folder must be a plain model.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.processes import PATIENCE_SEC

SHARD = "shard-{number:05d}-model-00001-of-00001.safetensors"
"""A name that torch gives."""
OPTIMIZER_SHARDS = "optimizer-*-of-*.safetensors"


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether a tensor is this process's part of one."""
    return hasattr(tensor, "placements")


def whole_on_host(tensors: Mapping[str, Any], *, keep: bool) -> dict[str, torch.Tensor]:
    """Gather sharded tensors, one after the other; in a process that does not keep them, to no purpose of its own."""
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if is_sharded(tensor) else tensor
        if keep:
            found[name] = whole.detach().to("cpu", copy=True).contiguous()
    return found


def part_on_host(tensor: Any) -> Any:
    """A copy on the host of this process's part of a tensor, as a DTensor that knows where it belongs.

    Made as FSDP makes its own: `DTensor.from_local` would move the copy to the device again.
    """
    from torch.distributed.tensor import DTensor

    local, placed = tensor.to_local().detach().to("cpu", copy=True), tensor._spec  # noqa: SLF001 - no public way
    return DTensor(local, placed, requires_grad=False)  # type: ignore[no-untyped-call]  # torch's own


def write_parts(folder: Path, tensors: Mapping[str, Any], group: Any) -> None:
    """Write this process's parts into a folder that all see. Every process of the group calls it.

    Raises:
        OSError: Some process could not write; the same in every one.
    """
    checkpoint = _library()
    writer = checkpoint.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        checkpoint.save(dict(tensors), storage_writer=writer, process_group=group)
    except checkpoint.CheckpointException as error:
        failures = "; ".join(f"process {rank}: {why}" for rank, (why, _) in sorted(error.failures.items()))
        raise OSError(failures.partition("\n")[0]) from None


def name_parts(folder: Path, num_processes: int) -> None:
    """Give the parts in a folder their names, in one process, when it sees them all.

    Raises:
        OSError: Some are not to be seen here: the processes do not write into one folder.
    """
    parts = [folder / SHARD.format(number=number) for number in range(1, num_processes + 1)]
    began = time.monotonic()
    while missing := [part for part in parts if not part.exists()]:
        if time.monotonic() - began > PATIENCE_SEC:
            raise OSError(f"{len(missing)} of {len(parts)} processes wrote where this one does not see it")
        time.sleep(1.0)
    for number, part in enumerate(parts, start=1):
        part.rename(folder / f"optimizer-{number:05d}-of-{num_processes:05d}.safetensors")


def has_parts(checkpoint: Path) -> bool:
    """Whether a checkpoint holds a sharded run's moments."""
    return next(checkpoint.glob(OPTIMIZER_SHARDS), None) is not None


def names_of_parts(files: Sequence[Path]) -> set[str]:
    """The tensors that files have, or have slices of. Raises CheckpointError for a file that is no safetensors."""
    names: set[str] = set()
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                names |= set(opened.keys())
        except SafetensorError as error:
            raise CheckpointError(
                f"{file}: {error}, though its hash is right; give another one to --resume-from-checkpoint"
            ) from None
    return names


def read_parts(checkpoint_folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Fill tensors, whole or sharded, from the files of a checkpoint, however they were sharded.

    Raises:
        CheckpointError: They do not fit.
    """
    checkpoint = _library()
    reader = checkpoint.HuggingFaceStorageReader(str(checkpoint_folder))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # yes: each process reads for itself
            checkpoint.load(dict(tensors), storage_reader=reader, no_dist=True)
    except checkpoint.CheckpointException as error:
        why = next(iter(error.failures.values()))[0]
        raise CheckpointError(f"{checkpoint_folder}: its optimizer files do not fit this model ({why})") from None


def _library() -> Any:
    import torch.distributed.checkpoint  # seconds that a run without shards need not wait for

    return torch.distributed.checkpoint
