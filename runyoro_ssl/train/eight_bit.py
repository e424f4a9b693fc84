"""AdamW whose two moments are kept in 8 bits, by bitsandbytes (Dettmers et al., 2022): blocks of 256 with a scale each.

Of the well-kept libraries bitsandbytes, as it has kernels of its own for CUDA and a plain form for CPUs, and neither
needs a compiler; torchao compiles its step for every shape of weight. Neither has one that is proven on MPS.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from runyoro_ssl.errors import ConfigError

INSTALL = "pip install -e '.[adam-8bit]'"
TENSORS = ("state1", "state2", "absmax1", "absmax2")
"""What bitsandbytes keeps of a weight, besides its count of steps: two moments, and the scales of their blocks."""
MAPS = {"qmap1": "dynamic", "qmap2": "udynamic"}
"""The numbers that the 256 codes stand for: the same for all weights."""
INSTEAD = "--set train.optimizer=adamw"


def check_eight_bit(device: str) -> None:
    """Refuse 8-bit moments where they cannot be had, before anything is loaded.

    Raises:
        ConfigError: The device has none, bitsandbytes is missing, or its trial fails.
    """
    if device == "mps":
        raise ConfigError(f"train.optimizer=adamw-8bit cannot be had on mps; {INSTEAD}, or --adapters lora for memory")
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"train.optimizer=adamw-8bit needs bitsandbytes, which is not installed: {INSTALL}; or {INSTEAD}"
        )
    weight = torch.nn.Parameter(torch.ones(64, 64, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        build_eight_bit([{"params": [weight]}], lr=1e-3).step()
    except (RuntimeError, OSError, AttributeError, NotImplementedError, ImportError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"train.optimizer=adamw-8bit does not work on {device} here: {why}; {INSTEAD}") from None


def build_eight_bit(groups: Any, **settings: Any) -> torch.optim.Optimizer:
    """An AdamW with 8-bit moments; those of fewer than 4,096 weights stay in fp32."""
    from bitsandbytes.optim.adamw import AdamW8bit

    made: Any = AdamW8bit
    optimizer: torch.optim.Optimizer = made(groups, **settings)
    return optimizer


def is_eight_bit(optimizer: Any) -> bool:
    """Whether an optimizer is one of those."""
    return hasattr(optimizer, "name2qmap")


def load_state(optimizer: Any, parameter: torch.Tensor, state: dict[str, torch.Tensor], *, num_updates: int) -> None:
    """Put back what `TENSORS` of a weight were; bitsandbytes' own way would copy all of it once more."""
    maps = optimizer.name2qmap
    whole: dict[str, Any] = {name: tensor.to(parameter.device) for name, tensor in state.items()}
    if "absmax1" in whole:
        whole |= {name: maps[kind].to(parameter.device) for name, kind in MAPS.items()}
    optimizer.state[parameter] = {"step": num_updates, **whole}
