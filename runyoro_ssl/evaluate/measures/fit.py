"""Fit: how well a model predicts what is masked of held-out speech. The same masks and negatives for every model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from runyoro_ssl.config import MaskingConfig
from runyoro_ssl.evaluate.intervals import PerGroup, Statistic
from runyoro_ssl.model.forward import encode, num_frames
from runyoro_ssl.model.masking import Masks, make_masks
from runyoro_ssl.model.objective import compute_objective

NUM_NEGATIVES = 100
"""For every model, whatever it was trained with: only so can losses be compared (wav2vec 2.0, sec. 3.2)."""


@dataclass(frozen=True)
class ClipFit:
    """Sums over the masked frames of a clip.

    Attributes:
        loss: Contrastive loss, nats. wav2vec 2.0, eq. 3.
        chance_loss: What guessing among the negatives that differ would have, nats.
        num_correct: Frames whose positive is nearer than every negative.
        num_masked: Masked frames.
        hard: float64 (groups, codes), how often each code is the best.
        soft: float64 (groups, codes), summed probabilities of codes.
    """

    loss: float
    chance_loss: float
    num_correct: float
    num_masked: float
    hard: np.ndarray
    soft: np.ndarray

    @property
    def below_guessing(self) -> float:
        """How far the loss is below that of guessing, nats: a model that tells few sounds apart has the easier task."""
        return self.chance_loss - self.loss


@torch.no_grad()
def measure_clip(network: Any, waveform: np.ndarray, clip_id: str) -> ClipFit:
    """Measure a clip, float32 (T,) in [-1, 1], with a `Network` that has a head. Masks follow from `clip_id` alone."""
    inputs = network.prepare(waveform)
    frames = int(num_frames(torch.tensor(inputs.shape[1]), network.head.config))
    masks = make_masks(
        [frames],
        [("evaluate", clip_id)],
        MaskingConfig(),
        num_negatives=NUM_NEGATIVES,
        hidden_size=network.head.config.hidden_size,
    ).each(lambda tensor: tensor.to(inputs.device))
    return measure_masked(network.head, inputs, masks, network.autocast())


@torch.no_grad()
def measure_masked(model: Any, inputs: torch.Tensor, masks: Masks, autocast: AbstractContextManager[Any]) -> ClipFit:
    """Measure a clip as a model takes it, float32 (1, T), with these masks, in this precision."""
    with autocast:
        context, features = encode(model, inputs, attention_mask=None, time_mask=masks.time_mask, feature_mask=None)
    found = compute_objective(
        model, context, features, positions=masks.positions, valid=masks.valid, negatives=masks.negatives
    )
    return ClipFit(
        float(found.contrastive_loss),
        float(found.chance_loss),
        float(found.num_correct),
        float(masks.valid.sum()),
        found.code_mass.double().cpu().numpy(),
        _soft_mass(model, features.float()[0][masks.positions[0][masks.valid[0]]]),
    )


def _soft_mass(model: Any, features: torch.Tensor) -> np.ndarray:
    """Summed probabilities of the codes of frames, (M, C) -> (groups, codes)."""
    quantizer = model.quantizer
    scores = quantizer.weight_proj(features).unflatten(-1, (quantizer.num_groups, quantizer.num_vars))
    return np.asarray(scores.softmax(dim=-1).sum(0).double().cpu().numpy())


def per_group(fits: Sequence[Sequence[ClipFit]], groups: np.ndarray, name: str) -> PerGroup:
    """A sum over masked frames (a field of `ClipFit`) per masked frame, of clips (S, N) in groups."""
    num_groups = int(groups.max()) + 1
    above, below = (
        np.stack([np.bincount(groups, [getattr(one, what) for one in of], minlength=num_groups) for of in fits])
        for what in (name, "num_masked")
    )
    return PerGroup(above, below)


def perplexity_of(fits: Sequence[Sequence[ClipFit]], groups: np.ndarray, name: str) -> Statistic:
    """Perplexity of codes in use ("hard" or "soft"), summed over the codebooks: 2 at collapse. wav2vec 2.0, eq. 4."""
    num_groups = int(groups.max()) + 1
    mass = []
    for of in fits:
        summed = np.zeros((num_groups, *getattr(of[0], name).shape))
        for group, one in zip(groups, of, strict=True):
            summed[group] += getattr(one, name)
        mass.append(summed)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.stack([_perplexity(np.tensordot(weights, summed, axes=1)) for summed in mass], axis=1)

    return statistic


def _perplexity(mass: np.ndarray) -> np.ndarray:
    """(R, groups, codes) -> (R,)."""
    share = mass / np.maximum(mass.sum(-1, keepdims=True), 1e-300)
    terms = np.where(share > 0, share * np.log(np.maximum(share, 1e-300)), 0.0)
    return np.asarray(np.exp(-terms.sum(-1)).sum(-1))
