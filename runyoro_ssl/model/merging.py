"""An adapted model as the plain one it stands for: each adapter's product added to its matrix, in fp32, on the host.

Frozen matrices may be held in the type of autocast, as products round them anyway: half the memory, the same numbers.
What is merged is the matrix as it came, which then waits in the host's memory.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from runyoro_ssl.model.adapters import LAYERS, NAME, adapted_modules, is_of_adapter

BASE = ".base_layer"
"""What peft puts into the name of a weight that has an adapter."""
ORIGINAL = "weight_as_it_came"


def plain_name(name: str) -> str:
    """The name of a frozen or merged weight in the plain model."""
    return name.replace(BASE, "")


def plain_weights(model: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The state of the plain model: (the model's own tensors, new ones on the host). Of a plain model: (all, none).

    Products are computed on the host: a GPU's might be rounded to TF32.
    """
    merged = {f"{name}.weight": merged_weight(module) for name, module in adapted_modules(model).items()}
    merged = {f"{name}.weight": original for name, original in _originals(model).items()} | merged
    own = {plain_name(name): tensor for name, tensor in model.state_dict().items() if not is_of_adapter(name)}
    return {name: tensor for name, tensor in own.items() if name not in merged}, merged


def merged_weight(module: Any) -> torch.Tensor:
    """What a linear layer with an adapter multiplies by: float32 (out, in), on the host."""
    base = getattr(module.base_layer, ORIGINAL, module.base_layer.weight)
    down, up = (side[NAME].weight.detach().to("cpu", torch.float32) for side in (module.lora_A, module.lora_B))
    return torch.addmm(base.detach().to("cpu"), up, down, alpha=module.scaling[NAME])


def hold_frozen(model: Any, dtype: torch.dtype) -> None:
    """Hold the Transformer's frozen matrices in this type, their originals on the host."""
    for name, module in model.named_modules():
        if name.startswith(LAYERS) and isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            setattr(module, ORIGINAL, module.weight.data.to("cpu"))
            module.weight.data = module.weight.data.to(dtype)


def base_fingerprint(model: Any) -> str:
    """The SHA-256 of all frozen weights as they came: what adapters are worth nothing without."""
    digest = hashlib.sha256()
    frozen = {name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad}
    originals = {f"{name}.weight": tensor for name, tensor in _originals(model, plain=False).items()}
    for name, parameter in sorted(frozen.items()):
        tensor = originals.get(name, parameter.data).to("cpu").contiguous()
        digest.update(plain_name(name).encode())
        digest.update(memoryview(tensor.numpy()).cast("B"))
    return digest.hexdigest()


def _originals(model: Any, *, plain: bool = True) -> dict[str, torch.Tensor]:
    """The frozen matrices that are held in another type, as they came, by the name of their layer."""
    found = ((name, getattr(module, ORIGINAL, None)) for name, module in model.named_modules())
    return {plain_name(name) if plain else name: tensor for name, tensor in found if tensor is not None}
