"""Which frames are masked, and which masked frames serve as each other's negatives.

Masks have the semantics of transformers' `_compute_mask_indices` (wav2vec 2.0, sec. 3.1); negatives those of
`_sample_negative_indices` (sec. 3.2). Each clip draws from its own generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch.nn.utils.rnn import pad_sequence

from runyoro_ssl.model.draws import derive_generator

if TYPE_CHECKING:
    from runyoro_ssl.config import MaskingConfig  # the bench runs where there is no pydantic

MIN_MASKED_FRAMES = 2
"""A masked frame needs at least one other in its clip to be told apart from."""


@dataclass(frozen=True)
class Masks:
    """The masks of one micro-batch, on the CPU. B clips, F frames, M = most masked frames of a clip, K negatives.

    Attributes:
        time_mask: bool (B, F), True where the mask embedding replaces the features.
        feature_mask: bool (B, H), True where a hidden dimension is set to zero; None when switched off.
        positions: int64 (B, M), frame numbers of the masked frames, padded with 0.
        valid: bool (B, M), False at that padding.
        negatives: int64 (B, M, K), for each masked frame the places 0..M-1 of its negatives.
    """

    time_mask: torch.Tensor
    feature_mask: torch.Tensor | None
    positions: torch.Tensor
    valid: torch.Tensor
    negatives: torch.Tensor

    def each(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Masks:
        """The same masks with a function applied to every tensor, e.g. to move it."""
        changed = {name: function(tensor) for name, tensor in vars(self).items() if tensor is not None}
        return replace(self, **changed)


def count_spans(num_frames: int, *, prob: float, length: int, min_spans: int, epsilon: float) -> int:
    """Spans to mask in a clip: prob x frames / length, rounded up with probability of the remainder.

    `epsilon` in [0, 1) is the draw behind that rounding. 0 for a clip shorter than one span.
    """
    spans = max(int(prob * num_frames / length + epsilon), min_spans)
    # Never more than fit side by side, nor than there are places to start.
    return max(0, min(spans, num_frames // length, num_frames - length + 1))


def sample_span_mask(
    num_frames: int, *, prob: float, length: int, min_spans: int, generator: torch.Generator
) -> torch.Tensor:
    """Sample span starts without replacement and mark the spans. Returns bool (num_frames,), True = masked."""
    epsilon = float(torch.rand((), generator=generator))
    spans = count_spans(num_frames, prob=prob, length=length, min_spans=min_spans, epsilon=epsilon)
    mask = torch.zeros(num_frames, dtype=torch.bool)
    if spans:
        starts = torch.randperm(num_frames - length + 1, generator=generator)[:spans]
        mask[(starts[:, None] + torch.arange(length)).flatten()] = True
    return mask


def sample_negatives(num_masked: int, num_negatives: int, generator: torch.Generator) -> torch.Tensor:
    """Draw negatives for each masked frame of a clip: other masked frames, uniformly and with replacement.

    Returns int64 (num_masked, num_negatives) of places 0..num_masked-1. Needs num_masked >= 2.
    """
    drawn = torch.randint(num_masked - 1, (num_masked, num_negatives), generator=generator)
    own = torch.arange(num_masked)[:, None]
    return drawn + (drawn >= own)


def make_masks(
    num_frames: Sequence[int],
    keys: Sequence[tuple[int | str, ...]],
    config: MaskingConfig,
    *,
    num_negatives: int,
    hidden_size: int,
    constant_frames: int | None = None,
) -> Masks:
    """Draw masks and negatives of one micro-batch; clip b draws from generators keyed on `keys[b]`.

    With `constant_frames` every tensor has the shape that follows from it and B: F is that, and M what it may mask.

    A clip with fewer than two masked frames has no negatives and is left unmasked: it adds nothing to the loss.
    """
    drawn = [_mask_clip(frames, key, config, num_negatives) for frames, key in zip(num_frames, keys, strict=True)]
    time_masks, positions, negatives = ([clip[part] for clip in drawn] for part in range(3))
    feature_mask = None
    if config.mask_feature_prob > 0:
        feature_mask = torch.stack([_mask_features(hidden_size, key, config) for key in keys])
    counts = torch.tensor([len(places) for places in positions])
    most = int(counts.max())
    if constant_frames is not None:
        most = most_masked(constant_frames, config)
        time_masks[0] = F.pad(time_masks[0], (0, constant_frames - len(time_masks[0])))
        positions[0] = F.pad(positions[0], (0, most - len(positions[0])))
        negatives[0] = F.pad(negatives[0], (0, 0, 0, most - len(negatives[0])))
    return Masks(
        time_mask=pad_sequence(time_masks, batch_first=True),
        feature_mask=feature_mask,
        positions=pad_sequence(positions, batch_first=True),
        valid=torch.arange(most)[None, :] < counts[:, None],
        negatives=pad_sequence(negatives, batch_first=True),
    )


def _mask_clip(
    num_frames: int, key: tuple[int | str, ...], config: MaskingConfig, num_negatives: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The time mask of a clip, the frames that it masks, and the places of their negatives."""
    mask = sample_span_mask(
        num_frames,
        prob=config.mask_time_prob,
        length=config.mask_time_length,
        min_spans=config.mask_time_min_spans,
        generator=derive_generator(*key, "mask"),
    )
    num_masked = int(mask.sum())
    if num_masked < MIN_MASKED_FRAMES:
        nothing = torch.zeros_like(mask)
        return nothing, nothing.nonzero().squeeze(1), torch.empty(0, num_negatives, dtype=torch.int64)
    negatives = sample_negatives(num_masked, num_negatives, derive_generator(*key, "negatives"))
    return mask, mask.nonzero().squeeze(1), negatives


def _mask_features(hidden_size: int, key: tuple[int | str, ...], config: MaskingConfig) -> torch.Tensor:
    return sample_span_mask(
        hidden_size,
        prob=config.mask_feature_prob,
        length=config.mask_feature_length,
        min_spans=config.mask_feature_min_spans,
        generator=derive_generator(*key, "feature mask"),
    )


def most_masked(num_frames: int, config: MaskingConfig) -> int:
    """The most frames that a clip of this many can have masked, whatever is drawn."""
    length, min_spans = config.mask_time_length, config.mask_time_min_spans
    spans = count_spans(num_frames, prob=config.mask_time_prob, length=length, min_spans=min_spans, epsilon=1.0)
    return spans * length


@dataclass(frozen=True)
class MaskSummary:
    """A summary of what the mask settings mean on a user's own clips."""

    num_clips: int
    masked_share: float
    distinct_negatives: float
    """Masked frames a clip offers as negatives, on average."""
    num_without: int
    """Clips with too few masked frames to train on."""
    num_whole: int = 0
    """Clips of which every frame is masked."""

    def line(self) -> str:
        """The one line `train` prints before its first step."""
        return (
            f"masking: {self.masked_share:.1%} of frames masked, {self.distinct_negatives:.0f} distinct negatives "
            f"a clip, {self.num_without} of {self.num_clips} sampled clips with too few masked frames to train on"
        )


def summarise_masks(num_frames: Sequence[int], config: MaskingConfig, *, seed: int, sample: int = 1000) -> MaskSummary:
    """Draw the masks of up to `sample` clips, evenly spread over those given, and summarise them."""
    chosen = list(num_frames)[:: -(-len(num_frames) // sample)]
    masked, without, whole = 0, 0, 0
    for index, frames in enumerate(chosen):
        mask = sample_span_mask(
            frames,
            prob=config.mask_time_prob,
            length=config.mask_time_length,
            min_spans=config.mask_time_min_spans,
            generator=derive_generator(seed, "summary", index),
        )
        count = int(mask.sum())
        masked += count
        without += count < MIN_MASKED_FRAMES
        whole += MIN_MASKED_FRAMES <= count == frames
    return MaskSummary(
        num_clips=len(chosen),
        masked_share=masked / max(1, sum(chosen)),
        distinct_negatives=max(0.0, masked / max(1, len(chosen)) - 1),
        num_without=without,
        num_whole=whole,
    )
