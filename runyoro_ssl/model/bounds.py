"""The numbers that a config.json may hold, before anything of their size is built. Nothing here imports torch.

Sizes may be several times those of the largest models of speech that were published (2,000 numbers a frame, 8,000
inside a layer, 48 layers): what is beyond is a mistake, or meant to take memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from runyoro_ssl.model.source import CONFIG
from runyoro_ssl.redaction import shortly


class Limits(NamedTuple):
    """The least and the most that a number may be, and what XLS-R-300M has. Whole where all three are."""

    least: float
    most: float
    usual: float


WIDTH = 8_192
"""Numbers of a vector."""
NUMBERS = {
    "hidden_size": Limits(1, WIDTH, 1024),
    "intermediate_size": Limits(1, 4 * WIDTH, 4096),
    "num_hidden_layers": Limits(1, 512, 24),
    "num_attention_heads": Limits(1, WIDTH, 16),
    "num_conv_pos_embeddings": Limits(1, 4096, 128),
    "num_conv_pos_embedding_groups": Limits(1, WIDTH, 16),
    "num_codevector_groups": Limits(1, 64, 2),
    "num_codevectors_per_group": Limits(1, WIDTH, 320),
    "codevector_dim": Limits(1, WIDTH, 768),
    "proj_codevector_dim": Limits(1, WIDTH, 768),
    "num_negatives": Limits(1, 10_000, 100),
    "num_labels": Limits(0, 1_000_000, 2),
    "layer_norm_eps": Limits(0.0, 0.1, 1e-5),
    "contrastive_logits_temperature": Limits(1e-6, 1e6, 0.1),
    "diversity_loss_weight": Limits(0.0, 1e6, 0.1),
}
CONVOLUTIONS = {
    "conv_dim": Limits(1, WIDTH, 512),
    "conv_kernel": Limits(1, 1024, 10),
    "conv_stride": Limits(1, 1024, 5),
}
"""Of each convolution of the feature encoder."""
MAX_CONVOLUTIONS = 64
LEAST_STRIDE = 16
"""Samples from a frame to the next: a millisecond at 16 kHz, in which speech does not change. XLS-R has 320."""
DIVISORS = (
    ("num_attention_heads", "hidden_size"),
    ("num_conv_pos_embedding_groups", "hidden_size"),
    ("num_codevector_groups", "codevector_dim"),
)
"""The first divides the second."""
OVERRIDDEN = "drop"
"""In the names of settings that a run may give itself, and that are looked at with what it gave."""


def find_absurd(settings: Mapping[str, Any]) -> str | None:
    """What of a config.json cannot be, in words: the setting, the value, what is expected. What it lacks is usual."""
    for name, limits in NUMBERS.items():
        if name in settings and not _is_within(settings[name], limits):
            return _explain(name, settings[name], limits)
    if fault := _find_in_convolutions(settings):
        return fault
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value) and OVERRIDDEN not in name:
            return f"has {name} {value} in its {CONFIG}, which is no number: mend it, or download it anew"
    for part, whole in DIVISORS:
        numbers = [settings.get(name, NUMBERS[name].usual) for name in (part, whole)]
        if part in settings and whole in settings and numbers[1] % numbers[0]:
            return f"has {part} {numbers[0]} in its {CONFIG}, which does not divide {whole}, {numbers[1]}: mend it"
    return None


def _is_within(value: Any, limits: Limits) -> bool:
    kinds = int if all(isinstance(number, int) for number in limits) else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and limits.least <= value <= limits.most


def _explain(name: str, value: Any, limits: Limits) -> str:
    whole = all(isinstance(number, int) for number in limits)
    expected = f"a {'whole ' if whole else ''}number from {limits.least:g} to {limits.most:g}"
    return f"has {name} {shortly(value)} in its {CONFIG}, expected {expected}: mend it; XLS-R has {limits.usual:g}"


def _find_in_convolutions(settings: Mapping[str, Any]) -> str | None:
    for name, limits in CONVOLUTIONS.items():
        value = settings.get(name, [])
        if not isinstance(value, list) or (name in settings and not 1 <= len(value) <= MAX_CONVOLUTIONS):
            return (
                f"has {name} {shortly(value)} in its {CONFIG}, expected a list of a number for each convolution, "
                f"1 to {MAX_CONVOLUTIONS} of them: mend it; XLS-R has 7"
            )
        for number in value:
            if not _is_within(number, limits):
                return _explain(f"{name} of", number, limits)
    stride = math.prod(settings.get("conv_stride", [LEAST_STRIDE]))
    if stride < LEAST_STRIDE:
        return (
            f"has conv_stride {shortly(settings['conv_stride'])} in its {CONFIG}, a frame for every "
            f"{stride} samples, where {LEAST_STRIDE} is the least: mend it; XLS-R has 320"
        )
    return None
