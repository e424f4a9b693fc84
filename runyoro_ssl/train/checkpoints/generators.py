"""The random state of a process, to be kept and put back."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The global generators of this process: Python's, numpy's, torch's on the CPU and on `device`.

    What the run draws is keyed, and needs none of them; a plugin may draw from them all the same.
    """
    _, words, next_gauss = random.getstate()
    of_numpy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one
    _, keys, position, has_gauss, gauss = of_numpy
    states = {
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor(math.nan if next_gauss is None else next_gauss, dtype=torch.float64),
        "numpy": torch.from_numpy(keys.astype(np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, gauss], dtype=torch.float64),
        "cpu": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_generators(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Set the global generators to what `generator_states` gave; those of another device stay as they are."""
    next_gauss = float(states["python_gauss"])
    random.setstate((3, tuple(states["python"].tolist()), None if math.isnan(next_gauss) else next_gauss))
    position, has_gauss, gauss = states["numpy_rest"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))  # noqa: NPY002 - the global one
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
