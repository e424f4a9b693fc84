"""How many weights a model has, how many of them learn, and what their optimizer keeps; nothing is allocated."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from runyoro_ssl.model.adapters import LAYERS, Adapters, is_of_adapter
from runyoro_ssl.model.checks import HEAD
from runyoro_ssl.torchaudio_compat import import_transformers

OptimizerKind = Literal["adamw", "adamw-8bit"]
TrainedPart = Literal["all", "feature_encoder", "above"]
"""What learns, where there are no adapters; "above": all but the feature encoder."""
FEATURE_ENCODER = "wav2vec2.feature_extractor."
LEAST_IN_8_BITS, BLOCK = 4096, 256
"""bitsandbytes: moments of fewer weights stay in fp32; so many share a scale."""


@dataclass(frozen=True)
class Counts:
    """Weights of the plain model, those of adapters, and all that learn, tensor by tensor.

    `frozen_matrices`: of the Transformer's matrices, where there are adapters.
    """

    parameters: int
    of_adapters: int
    frozen_matrices: int
    trained: tuple[int, ...]

    @property
    def num_trained(self) -> int:
        """Weights that learn."""
        return sum(self.trained)


def state_bytes(sizes: Iterable[int], optimizer: OptimizerKind) -> int:
    """Bytes of an optimizer's two moments of tensors of so many weights each."""
    if optimizer == "adamw":
        return 8 * sum(sizes)
    return sum(8 * size if size < LEAST_IN_8_BITS else 2 * size + 8 * math.ceil(size / BLOCK) for size in sizes)


def count_trained(model: Any) -> tuple[int, list[int]]:
    """Weights of a model, those of its adapters not counted; and how many each tensor has that learns."""
    named = [(name, parameter.numel(), parameter.requires_grad) for name, parameter in model.named_parameters()]
    plain = sum(size for name, size, _ in named if not is_of_adapter(name))
    return plain, [size for _, size, learns in named if learns]


def count_weights(config: Any, adapters: Adapters | None = None, trained: TrainedPart = "all") -> Counts:
    """The counts of the Wav2Vec2ForPreTraining of a Wav2Vec2Config. `trained`: of what is no adapter."""
    shapes = _shapes(config.to_json_string(use_diff=False))
    parameters = sum(math.prod(shape) for _, shape in shapes)
    if adapters is None:
        learning = [shape for name, shape in shapes if _learns(name, trained)]
        return Counts(parameters, 0, 0, tuple(math.prod(shape) for shape in learning))
    sides = [adapters.rank * side for name, shape in shapes if adapters.adapts(name) for side in shape]
    also = [math.prod(shape) for name, shape in shapes if adapters.learns(name)]
    frozen = sum(math.prod(shape) for name, shape in shapes if name.startswith(LAYERS) and len(shape) > 1)
    return Counts(parameters, sum(sides), frozen, (*sides, *also))


def _learns(name: str, trained: TrainedPart) -> bool:
    return trained == "all" or name.startswith(FEATURE_ENCODER) == (trained == "feature_encoder")


def count_body(config: Any) -> int:
    """Weights of the model of a Wav2Vec2Config but for its pre-training head, which it may lack."""
    shapes = _shapes(config.to_json_string(use_diff=False))
    return sum(math.prod(shape) for name, shape in shapes if not name.startswith(HEAD))


@functools.lru_cache(maxsize=16)
def _shapes(config: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """(name, shape) of every parameter of a configuration, which is given as JSON."""
    transformers = import_transformers()
    with torch.device("meta"):
        model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config.from_dict(json.loads(config)))
    return tuple((name, tuple(parameter.shape)) for name, parameter in model.named_parameters())
