"""Slow, obvious oracles: transformers' own forward, and plain loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere

from runyoro_ssl.batches.build import TrainingBatch


def all_frame_gumbel_noise(model: Any, batch: TrainingBatch, seed: int = 0) -> torch.Tensor:
    """Gumbel noise for every frame: (B, F, groups, codes)."""
    clips, frames = batch.masks.time_mask.shape
    quantizer = model.quantizer
    uniform = torch.rand(
        clips, frames, quantizer.num_groups, quantizer.num_vars, generator=torch.Generator().manual_seed(seed)
    )
    return -(-(uniform.clamp(1e-9, 1 - 1e-7)).log()).log()


def at_masked_frames(noise: torch.Tensor, batch: TrainingBatch) -> torch.Tensor:
    """The noise of the masked frames only: (B, M, groups, codes)."""
    index = batch.masks.positions[..., None, None].expand(-1, -1, *noise.shape[2:])
    return noise.gather(1, index)


@contextmanager
def shared_gumbel_noise(noise: torch.Tensor) -> Iterator[None]:
    """Make transformers' quantiser use this noise, in place of its own draw."""

    def gumbel_softmax(logits: torch.Tensor, tau: float, hard: bool) -> torch.Tensor:  # noqa: FBT001
        assert hard
        soft = ((logits + noise.reshape(logits.shape)) / tau).softmax(-1)
        best = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return best - soft.detach() + soft

    original = F.gumbel_softmax
    F.gumbel_softmax = gumbel_softmax  # type: ignore[assignment]
    try:
        yield
    finally:
        F.gumbel_softmax = original


def transformers_forward(model: Any, batch: TrainingBatch, num_samples: Sequence[int]) -> Any:
    """Transformers' own pre-training forward on our batch, masks and negatives."""
    masks = batch.masks
    clips, frames = masks.time_mask.shape
    negatives = torch.zeros(clips, frames, masks.negatives.shape[-1], dtype=torch.int64)
    for clip in range(clips):
        places = masks.time_mask[clip].nonzero().squeeze(1)
        negatives[clip, places] = places[masks.negatives[clip, : len(places)]] + clip * frames
    attention_mask = None
    if batch.attention_mask is not None:
        attention_mask = torch.arange(batch.waveforms.shape[1])[None, :] < torch.tensor(num_samples)[:, None]
    return model(
        batch.waveforms.clone(),
        attention_mask=None if attention_mask is None else attention_mask.long(),
        mask_time_indices=masks.time_mask,
        sampled_negative_indices=negatives,
    )


def without_dropout(model: Any) -> Any:
    """Switch off what draws at random in the network, and layer drop."""
    model.config.layerdrop = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return model


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """The gradient of every parameter that has one."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def relative_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of whole gradients, over the norm of theirs."""
    names = ours.keys() | theirs.keys()
    zero = torch.zeros(())
    difference = sum(float((ours.get(n, zero) - theirs.get(n, zero)).square().sum()) for n in names)
    return float((difference / sum(float(g.square().sum()) for g in theirs.values())) ** 0.5)


def rates_downwards(
    model: Any, peak: float, *, decay: float, encoder_scale: float, adapter_scale: float
) -> dict[str, float]:
    """The learning rate of each parameter, by name: going down from the head, each layer `decay` times the last."""
    body, rates = model.wav2vec2, dict[int, float]()

    def give(module: Any, rate: float) -> None:
        rates.update({id(parameter): rate for parameter in module.parameters()})

    for head in (model.quantizer, model.project_hid, model.project_q):
        give(head, peak)
    rate = peak
    if model.config.do_stable_layer_norm:
        give(body.encoder.layer_norm, rate)
    for layer in reversed(body.encoder.layers):
        give(layer, rate)
        rate *= decay
    if not model.config.do_stable_layer_norm:
        give(body.encoder.layer_norm, rate)
    give(body.encoder.pos_conv_embed, rate)
    give(body.feature_projection, rate)
    rates[id(body.masked_spec_embed)] = rate
    give(body.feature_extractor, rate * encoder_scale)
    named = model.named_parameters()
    return {name: rates[id(one)] * (adapter_scale if "lora_" in name else 1.0) for name, one in named}


def moving_average(weights: Sequence[torch.Tensor], decay: float) -> torch.Tensor:
    """The mean of a weight after each update, in float64, each weighed by how long ago it was."""
    shares = [decay ** (len(weights) - 1 - number) for number in range(len(weights))]
    summed = sum(share * one.double() for share, one in zip(shares, weights, strict=True))
    return torch.as_tensor(summed) / sum(shares)
