"""Low-rank adapters of the Transformer's matrices (LoRA, Hu et al., 2021, sec. 4.1), put into a plain model by `peft`.

A matrix W stays as it is; x W becomes x W + (alpha / rank) x A B, where A (in, rank) is drawn and B (rank, out) begins
at zero: at first the model is the one that came. What learns is A and B; and, so that nothing is missing that is small
and needed, the objective's own weights (quantizer, projections) and the norms of the Transformer. The feature encoder
and all before the first layer are frozen: the backward pass ends there, and nothing is kept for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from runyoro_ssl.errors import ConfigError, did_you_mean
from runyoro_ssl.model.draws import derive_seed

if TYPE_CHECKING:
    from runyoro_ssl.config import Config  # the bench runs where there is no pydantic

NAME = "default"
"""peft's name of the only adapter there is."""
LAYERS = "wav2vec2.encoder.layers."
PARTS = {"quantizer": ("quantizer.",), "projections": ("project_q.", "project_hid."), "norms": ()}
"""The names of what may learn besides; norms are found by theirs."""
INSTALL = "pip install -e '.[adapters]'"


@dataclass(frozen=True)
class Adapters:
    """Which adapters a model has, by the names of `AdapterConfig`, and what else learns."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense")
    also: tuple[str, ...] = tuple(PARTS)

    @classmethod
    def of(cls, config: Config) -> Self | None:
        """The adapters of a run; None: all weights learn."""
        given = config.adapter
        if given.kind == "none":
            return None
        return cls(given.rank, given.alpha, given.dropout, given.targets, given.also)

    def learns(self, name: str) -> bool:
        """Whether a weight of the plain model, by its name, learns itself."""
        prefixes = tuple(prefix for part in self.also for prefix in PARTS[part])
        is_norm = name.startswith("wav2vec2.encoder.") and "layer_norm" in name
        return name.startswith(prefixes) or (is_norm and "norms" in self.also)

    def adapts(self, name: str) -> bool:
        """Whether a weight of the plain model, by its name, is a matrix that gets an adapter."""
        *_, module, kind = name.split(".")
        return name.startswith(LAYERS) and kind == "weight" and module in self.targets


def check_peft() -> None:
    """Refuse adapters where peft is missing.

    Raises:
        ConfigError: Names the extra to install.
    """
    from importlib.util import find_spec

    if find_spec("peft") is None:
        raise ConfigError(f"--adapters lora needs peft, which is not installed: {INSTALL}; or leave --adapters out")


def adapt(model: Any, adapters: Adapters, *, seed: int) -> Any:
    """Freeze a Wav2Vec2ForPreTraining, give it adapters, and let learn what shall; the model itself is changed.

    Raises:
        ConfigError: peft is missing, a target is no matrix of this model, or the rank leaves nothing to save.
    """
    check_peft()
    from peft import LoraConfig, inject_adapter_in_model

    _check_targets(model, adapters)
    torch.manual_seed(derive_seed(seed, "adapters"))
    layers = LAYERS.replace(".", r"\.")
    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.alpha,  # type: ignore[arg-type]  # a factor like any other
        lora_dropout=adapters.dropout,
        target_modules=rf"{layers}\d+\.\w+\.({'|'.join(adapters.targets)})",
    )
    inject_adapter_in_model(config, model, adapter_name=NAME)
    for module in adapted_modules(model).values():
        # Autocast casts: what peft casts to fp32 before would be kept besides.
        module.cast_input_dtype_enabled = False
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_of_adapter(name) or adapters.learns(name))
    return model


def is_of_adapter(name: str) -> bool:
    """Whether a parameter, by its name, is one of an adapter's two."""
    return ".lora_" in name


def adapted_modules(model: Any) -> dict[str, Any]:
    """The linear layers with an adapter, by their name in the plain model; none if the model is one."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    """What learns in an adapted model, by name: all that its run needs besides the base model."""
    return {name: parameter.data for name, parameter in model.named_parameters() if parameter.requires_grad}


def load_trained_weights(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """Put back what `trained_weights` gave. Raises KeyError for one that is missing."""
    for name, parameter in trained_weights(model).items():
        parameter.copy_(weights[name])


def _check_targets(model: Any, adapters: Adapters) -> None:
    found = dict(_matrices(model))
    for target in adapters.targets:
        if target not in found:
            known = ", ".join(found) or "none"
            raise ConfigError(
                f'adapter.targets names "{target}"{did_you_mean(target, found)}, and the layers of this model have no '
                f"such matrix (they have: {known}); give those, or leave --adapters out"
            )
        if adapters.rank >= (least := min(found[target].weight.shape)):
            raise ConfigError(
                f"adapter.rank is {adapters.rank}, and {target} of this model is only {least} wide: adapters would not "
                f"be smaller; give a rank well under {least}, or leave --adapters out"
            )


def _matrices(model: Any) -> Iterator[tuple[str, torch.nn.Linear]]:
    """The linear layers of the Transformer, by the last part of their names."""
    for name, module in model.named_modules():
        if name.startswith(LAYERS) and isinstance(module, torch.nn.Linear):
            yield name.rpartition(".")[2], module
