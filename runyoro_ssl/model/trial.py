"""A model tried as it came: whether its weights are numbers, and whether it gives numbers."""

from __future__ import annotations

from typing import Any

import torch

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.model.forward import encode, num_frames
from runyoro_ssl.model.masking import MIN_MASKED_FRAMES
from runyoro_ssl.model.objective import compute_objective

TRIED_SAMPLES = 8_000
"""Half a second at 16 kHz."""
SYLLABLES = 4
"""A second, roughly."""


def check_values(name: str, model: Any) -> None:
    """Refuse weights that are no numbers, and matrices of nothing but zeros, through which no gradient passes.

    Raises:
        CheckpointError: The first such tensor, and how many there are.
    """
    tensors = {key: tensor.detach() for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    spoiled = [key for key, tensor in tensors.items() if not _is_finite(tensor)]
    if spoiled:
        tensor = tensors[spoiled[0]]
        numbers = f"{int(tensor.isnan().sum())} NaN and {int(tensor.isinf().sum())} infinite of {tensor.numel()}"
        raise CheckpointError(
            f'model "{name}": {len(spoiled)} of its {len(tensors)} weights are not finite, the first {spoiled[0]} '
            f"({numbers}); give an earlier checkpoint of it, or download it anew"
        )
    # Biases and norms may be zero, and adapters begin so; a whole matrix is not, after any training.
    empty = [key for key, tensor in tensors.items() if tensor.dim() > 1 and "adapter" not in key and not tensor.any()]
    if empty:
        raise CheckpointError(
            f'model "{name}": {len(empty)} of its {len(tensors)} weights are all zero, the first {empty[0]}; the file '
            "is damaged or was not copied to its end: copy or download it anew"
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    # A sum is one pass without a copy. It may overflow where every number is finite: then each is looked at.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def check_forward(name: str, model: Any) -> None:
    """Refuse a model that gives no numbers as it came: one pass over half a second like speech, in fp32, on the CPU.

    No random state is touched. The model is left in evaluation mode.

    Raises:
        CheckpointError: Where numbers end, and the largest weight; or that its configuration makes no pass possible.
    """
    try:
        stages = _try(model.eval())
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        why = str(error).partition("\n")[0]
        raise CheckpointError(
            f'model "{name}" cannot be run ({why}): its config.json asks for what its weights cannot do; mend it'
        ) from None
    broken = next((stage for stage, values in stages.items() if not values.isfinite().all()), None)
    if broken:
        key, largest = max(_magnitudes(model).items(), key=lambda item: item[1])
        raise CheckpointError(
            f'model "{name}" gives NaN or infinity in its {broken} for half a second of noise, in fp32, though each '
            f"weight is a number; the largest is {largest:.3g}, in {key}: give an earlier checkpoint of it, or "
            "download it anew"
        )


@torch.no_grad()
def _try(model: Any) -> dict[str, torch.Tensor]:
    """What each stage of a model gives; nothing where half a second is too short for its feature encoder."""
    frames = int(num_frames(torch.tensor(TRIED_SAMPLES), model.config))
    num_masked = frames // 2
    if num_masked < MIN_MASKED_FRAMES:
        return {}
    time_mask = torch.arange(frames)[None] < num_masked
    context, features = encode(model, _babble(), attention_mask=None, time_mask=time_mask, feature_mask=None)
    places = torch.arange(num_masked)
    distances = 1 + torch.arange(model.config.num_negatives) % (num_masked - 1)
    objective = compute_objective(
        model,
        context,
        features,
        positions=places[None],
        valid=torch.ones(1, num_masked, dtype=torch.bool),
        negatives=((places[:, None] + distances) % num_masked)[None],
    )
    return {"feature encoder": features, "context network": context, "objective": objective.loss}


def _magnitudes(model: Any) -> dict[str, float]:
    """The largest absolute value of each parameter."""
    return {key: float(parameter.detach().abs().max()) for key, parameter in model.named_parameters()}


def _babble() -> torch.Tensor:
    """Noise that comes and goes as syllables do, of zero mean and unit variance: float32 (1, T)."""
    noise = torch.randn(TRIED_SAMPLES, generator=torch.Generator().manual_seed(0))
    seconds = torch.arange(TRIED_SAMPLES) / 16_000
    babble = noise * (1.1 + torch.cos(2 * torch.pi * SYLLABLES * seconds))
    return ((babble - babble.mean()) / babble.std())[None]
