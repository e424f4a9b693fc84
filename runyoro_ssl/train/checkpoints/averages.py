"""A moving average in a checkpoint: whole, as the weights are, and read by one process or by several."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from runyoro_ssl.train.averaging import MovingAverage
from runyoro_ssl.train.checkpoints.format import AVERAGES
from runyoro_ssl.train.checkpoints.shards import is_sharded, read_parts

PREFIX = "average."
"""Of names in the file: torch reads all files of a sharded checkpoint as one, the model's among them."""


def by_saved_name(average: MovingAverage | None) -> dict[str, torch.Tensor]:
    """Averages by the names that a checkpoint gives them; none before the first update, or where there is none."""
    if average is None or not average.num_updates:
        return {}
    return {f"{PREFIX}{name}": one for name, one in average.averages.items()}


def read_averages(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The averages of a checkpoint, whole, on the host, by the names of the weights."""
    return {name.removeprefix(PREFIX): one for name, one in load_file(checkpoint / AVERAGES).items()}


def load_averages(checkpoint: Path, average: MovingAverage, *, num_updates: int) -> None:
    """Put back what a checkpoint has after so many updates; without any, the average begins at the next."""
    if not num_updates:
        average.restart()
    elif any(map(is_sharded, average.averages.values())):
        average.num_updates = num_updates
        read_parts(checkpoint, by_saved_name(average))
    else:
        average.put_back(read_averages(checkpoint), num_updates=num_updates)
