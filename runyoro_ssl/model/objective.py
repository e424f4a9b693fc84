"""The wav2vec 2.0 objective, at masked frames only. Equal to the loss of transformers' own forward.

Quantiser, projections and similarities are computed for the padded (B, M) masked frames instead of all frames, and
negatives are gathered from one (B, M, M) similarity matrix. No loop over clips, no boolean indexing, no host sync.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

COSINE_EPSILON = 1e-8
"""As torch.cosine_similarity."""


@dataclass(frozen=True)
class Objective:
    """Sums over the masked frames of one micro-batch, on the device; divide by the frames of the whole update.

    Attributes:
        loss: contrastive_loss + diversity_loss_weight x diversity_loss, with gradient. nats.
        contrastive_loss: Cross-entropy of the positive among positive and negatives. nats.
        diversity_loss: (codes - perplexity) / codes of this micro-batch, times its masked frames.
        num_correct: Frames whose positive is nearer than every negative that differs from it.
        chance_loss: ln(1 + negatives that differ), the cross-entropy of guessing. ln(101) with 100 distinct negatives.
        code_mass: (groups, codes), summed code probabilities: soft in training, one-hot in evaluation.
    """

    loss: torch.Tensor
    contrastive_loss: torch.Tensor
    diversity_loss: torch.Tensor
    num_correct: torch.Tensor
    chance_loss: torch.Tensor
    code_mass: torch.Tensor


@dataclass(frozen=True)
class Chance:
    """What guessing reaches: each true frame is to be picked among `num_choices`, its negatives and itself."""

    num_choices: int

    @property
    def loss(self) -> float:
        """Contrastive loss of guessing, nats."""
        return math.log(self.num_choices)

    @property
    def accuracy(self) -> float:
        """Share of frames that guessing picks right."""
        return 1 / self.num_choices


def chance(model_config: Any) -> Chance:
    """What guessing reaches with the negatives of a Wav2Vec2Config, as long as all of them differ."""
    return Chance(1 + int(model_config.num_negatives))


def compute_objective(
    model: Any,
    context: torch.Tensor,
    features: torch.Tensor,
    *,
    positions: torch.Tensor,
    valid: torch.Tensor,
    negatives: torch.Tensor,
    gumbel_noise: torch.Tensor | None = None,
) -> Objective:
    """Contrast each masked frame's context with its quantised target. wav2vec 2.0, eq. 2-4. Computed in fp32.

    Args:
        model: Wav2Vec2ForPreTraining; in training mode codes are drawn (Gumbel), in evaluation they are the best.
        context: (B, F, H), from `encode`.
        features: (B, F, C), from `encode`.
        positions: int64 (B, M), masked frames, padded.
        valid: bool (B, M), False at that padding.
        negatives: int64 (B, M, K), places in 0..M-1.
        gumbel_noise: float (B, M, groups, codes) to use instead of drawing it; for tests.
    """
    with torch.autocast(context.device.type, enabled=False):
        targets, code_ids, code_mass = quantize(
            model, model.dropout_features(_take(features, positions)).float(), valid, gumbel_noise
        )
        predictions = model.project_hid(_take(context, positions).float())
        logits = contrastive_logits(
            predictions, model.project_q(targets), code_ids, negatives, model.config.contrastive_logits_temperature
        )
        frames = valid.to(logits.dtype)
        num_masked = frames.sum()
        contrastive = ((torch.logsumexp(logits, dim=-1) - logits[..., 0]) * frames).sum()
        num_codes = code_mass.numel()
        diversity = (num_codes - perplexity(code_mass)) / num_codes * num_masked
        differ = torch.isfinite(logits[..., 1:])
        best_negative = logits[..., 1:].amax(dim=-1)
        correct = (logits[..., 0] > best_negative) & differ.any(dim=-1) & valid
        return Objective(
            loss=contrastive + model.config.diversity_loss_weight * diversity,
            contrastive_loss=contrastive.detach(),
            diversity_loss=diversity.detach(),
            num_correct=correct.sum().detach(),
            chance_loss=(torch.log1p(differ.sum(dim=-1).to(logits.dtype)) * frames).sum().detach(),
            code_mass=code_mass.detach(),
        )


def quantize(
    model: Any, features: torch.Tensor, valid: torch.Tensor, gumbel_noise: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Map features to codevectors, as `Wav2Vec2GumbelVectorQuantizer.forward`. wav2vec 2.0, eq. 1.

    Args:
        model: Its quantizer's temperature and mode are used.
        features: fp32 (B, M, C).
        valid: bool (B, M); other frames do not count in the code mass.
        gumbel_noise: As in `compute_objective`.

    Returns:
        codevectors (B, M, D); code ids int64 (B, M), equal where the codevectors are; code mass (groups, codes).
    """
    quantizer = model.quantizer
    groups, codes = quantizer.num_groups, quantizer.num_vars
    scores = quantizer.weight_proj(features).unflatten(-1, (groups, codes))
    if quantizer.training:
        if gumbel_noise is None:
            gumbel_noise = -torch.empty_like(scores).exponential_().log()
        soft = ((scores + gumbel_noise) / quantizer.temperature).softmax(dim=-1)
        chosen = soft.argmax(dim=-1)
        # Straight through: the one-hot choice forwards, the soft one backwards.
        probs = F.one_hot(chosen, codes).to(soft.dtype) - soft.detach() + soft
        counted = scores.softmax(dim=-1)
    else:
        chosen = scores.argmax(dim=-1)
        probs = counted = F.one_hot(chosen, codes).to(scores.dtype)
    codebook = quantizer.codevectors.float().view(groups, codes, -1)
    codevectors = torch.einsum("bmgv,gvd->bmgd", probs, codebook).flatten(-2)
    code_ids = chosen[..., 0]
    for group in range(1, groups):
        code_ids = code_ids * codes + chosen[..., group]
    return codevectors, code_ids, torch.einsum("bmgv,bm->gv", counted, valid.to(counted.dtype))


def contrastive_logits(
    predictions: torch.Tensor,
    targets: torch.Tensor,
    code_ids: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Cosine similarities over the temperature: (B, M, 1 + K), the positive first.

    A negative with the positive's codes is no negative: its logit is -inf. predictions, targets (B, M, D).
    """
    predictions = F.normalize(predictions, dim=-1, eps=COSINE_EPSILON)
    targets = F.normalize(targets, dim=-1, eps=COSINE_EPSILON)
    similarity = predictions @ targets.transpose(1, 2)
    positive = similarity.diagonal(dim1=1, dim2=2)[..., None]
    negative = similarity.gather(2, negatives)
    negative_ids = code_ids.gather(1, negatives.flatten(1)).view_as(negatives)
    negative = negative.masked_fill(negative_ids == code_ids[..., None], float("-inf"))
    return torch.cat([positive, negative], dim=-1) / temperature


def perplexity(code_mass: torch.Tensor) -> torch.Tensor:
    """Perplexity of the average code distribution, summed over groups: groups at collapse, all codes at best.

    code_mass (groups, codes), not normalised -> scalar.
    """
    tiny = torch.finfo(code_mass.dtype).tiny
    share = code_mass / code_mass.sum(dim=-1, keepdim=True).clamp(min=tiny)
    # Not xlogy(share, share): its gradient is NaN at 0, where a code that underflows to probability 0 ends up.
    return torch.exp(-(share * share.clamp(min=tiny).log()).sum(dim=-1)).sum()


def _take(frames: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Frames at positions: (B, F, D), (B, M) -> (B, M, D)."""
    return frames.gather(1, positions[..., None].expand(-1, -1, frames.shape[-1]))
