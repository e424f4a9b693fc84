"""The blocks of the network, each with inputs drawn for it: by our code on any device, by a reference on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from runyoro_ssl.batches.build import TrainingBatch
from runyoro_ssl.model.attention import is_fused
from runyoro_ssl.model.context import convolve_positions, mask_keys
from runyoro_ssl.model.encoder import encode_waveforms
from runyoro_ssl.model.objective import compute_objective

Tensors = Mapping[str, torch.Tensor]
CHUNK_CLIPS = 4
"""Clips that the reference computes at a time: a GPU's largest micro-batch is more than a laptop's memory holds."""
CLEAR_LEAD = 1.0
"""By so much the code that is chosen leads, so that no rounding chooses another: all that follows would differ."""


@dataclass(frozen=True)
class Block:
    """One block. Its inputs, by name, have clips first; `learned` get a gradient, as its parameters do.

    `draw` gives the inputs for a micro-batch, on the CPU. `ours` and `reference` (model, inputs) give its output.
    `is_by_clip`: clips do not meet in it, so that they may be computed apart.
    """

    name: str
    learned: tuple[str, ...]
    parts: tuple[str, ...]
    draw: Callable[[Any, TrainingBatch, torch.Generator], Tensors]
    ours: Callable[[Any, Tensors], torch.Tensor]
    reference: Callable[[Any, Tensors], torch.Tensor]
    is_by_clip: bool = True

    def parameters(self, model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Its parameters, by their names in the model."""
        for part in self.parts:
            found = model.get_submodule(part)
            for name, parameter in found.named_parameters():
                yield f"{part}.{name}", parameter


def _hidden(model: Any, batch: TrainingBatch, generator: torch.Generator) -> torch.Tensor:
    shape = (*batch.masks.time_mask.shape, model.config.hidden_size)
    hidden = torch.randn(shape, generator=generator)
    return hidden if batch.attention_mask is None else hidden * batch.attention_mask[..., None]


def _with_mask(model: Any, batch: TrainingBatch, generator: torch.Generator) -> Tensors:
    mask = {} if batch.attention_mask is None else {"attention_mask": batch.attention_mask}
    return {"hidden": _hidden(model, batch, generator), **mask}


def _waveforms(_model: Any, batch: TrainingBatch, _generator: torch.Generator) -> Tensors:
    return {"waveforms": batch.waveforms}


def _targets(model: Any, batch: TrainingBatch, generator: torch.Generator) -> Tensors:
    """Context, features and masks for the objective, and Gumbel noise by which one code clearly leads."""
    masks, quantizer = batch.masks, model.quantizer
    features = torch.randn((*masks.time_mask.shape, model.config.conv_dim[-1]), generator=generator)
    taken = features.gather(1, masks.positions[..., None].expand(-1, -1, features.shape[-1]))
    with torch.no_grad():
        scores = quantizer.weight_proj(taken).unflatten(-1, (quantizer.num_groups, quantizer.num_vars))
    noise = -torch.empty_like(scores).exponential_(generator=generator).log()
    best = (scores + noise).argmax(dim=-1, keepdim=True)
    return {
        "context": _hidden(model, batch, generator),
        "features": features,
        "positions": masks.positions,
        "valid": masks.valid,
        "negatives": masks.negatives,
        "noise": noise.scatter_add(-1, best, torch.full_like(noise[..., :1], CLEAR_LEAD)),
    }


def _encode(model: Any, inputs: Tensors) -> torch.Tensor:
    return encode_waveforms(model.wav2vec2.feature_extractor, inputs["waveforms"])


def _convolve(model: Any, inputs: Tensors) -> torch.Tensor:
    output: torch.Tensor = model.wav2vec2.feature_extractor(inputs["waveforms"].clone()).transpose(1, 2)
    return output


def _positions(model: Any, inputs: Tensors) -> torch.Tensor:
    return _shown(convolve_positions(model.wav2vec2.encoder.pos_conv_embed, inputs["hidden"]), inputs)


def _layer(model: Any, inputs: Tensors) -> torch.Tensor:
    encoder, hidden = model.wav2vec2.encoder, inputs["hidden"]
    keys = mask_keys(inputs.get("attention_mask"), hidden, sdpa=is_fused(encoder.config))
    # Less what it passes on, beside which all that it computes is small.
    return _shown(encoder.layers[0](hidden, attention_mask=keys) - hidden, inputs)


def _shown(output: torch.Tensor, inputs: Tensors) -> torch.Tensor:
    """The output where there is audio: what stands at padding is nobody's concern."""
    mask = inputs.get("attention_mask")
    return output if mask is None else output.masked_fill(~mask[..., None], 0.0)


def _objective(model: Any, inputs: Tensors) -> torch.Tensor:
    """The loss of a masked frame, and the share of each code."""
    objective = compute_objective(
        model,
        inputs["context"],
        inputs["features"],
        positions=inputs["positions"],
        valid=inputs["valid"],
        negatives=inputs["negatives"],
        gumbel_noise=inputs["noise"],
    )
    frames = inputs["valid"].sum()
    return torch.cat([objective.loss[None], objective.code_mass.flatten()]) / frames


BLOCKS = (
    Block("feature encoder", (), ("wav2vec2.feature_extractor",), _waveforms, _encode, _convolve),
    Block(
        "positional convolution",
        ("hidden",),
        ("wav2vec2.encoder.pos_conv_embed",),
        _with_mask,
        _positions,
        _positions,
    ),
    Block("layer", ("hidden",), ("wav2vec2.encoder.layers.0",), _with_mask, _layer, _layer),
    Block(
        "objective",
        ("context", "features"),
        ("quantizer", "project_hid", "project_q"),
        _targets,
        _objective,
        _objective,
        is_by_clip=False,
    ),
)
"""In the order of a forward pass. References: transformers' own convolutions, attention computed step by step."""


@dataclass(frozen=True)
class Outcome:
    """What a block gave, on the CPU: its output, and the gradients of its inputs and parameters, by name."""

    output: torch.Tensor
    gradients: dict[str, torch.Tensor]


def run_block(
    block: Block,
    model: Any,
    inputs: Tensors,
    *,
    by: Callable[[Any, Tensors], torch.Tensor],
    accelerator: Any,
    in_chunks: bool = False,
) -> Outcome:
    """Run a block forward, and backward from a fixed gradient, on the model's device (`accelerator`)."""
    device = accelerator.device
    model.zero_grad()
    outputs, of_inputs = [], []
    clips = len(next(iter(inputs.values())))
    step = CHUNK_CLIPS if in_chunks and block.is_by_clip else clips
    for start in range(0, clips, step):
        here = {name: tensor[start : start + step].to(device) for name, tensor in inputs.items()}
        learned = {name: here[name].requires_grad_() for name in block.learned}
        with accelerator.autocast():
            output = by(model, {**here, **learned}).float()
        accelerator.backward((output * _gradient_of(output, start).to(device)).sum())
        outputs.append(output.detach().cpu())
        of_inputs.append(gradients_of(learned.items()))
    gradients = {name: torch.cat([part[name] for part in of_inputs]) for name in block.learned}
    gradients |= gradients_of(block.parameters(model))
    model.zero_grad()
    return Outcome(torch.cat(outputs) if outputs[0].ndim > 1 else outputs[0], gradients)


def gradients_of(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The gradients of those that have one, by name, in fp32 on the CPU."""
    return {name: one.grad.detach().float().cpu() for name, one in named if one.grad is not None}


def _gradient_of(output: torch.Tensor, first_clip: int) -> torch.Tensor:
    """The gradient that comes from behind: drawn for each clip alone, whatever is computed together; 1 of a vector."""
    if output.ndim == 1:
        return torch.ones(output.shape)
    drawn = [
        torch.randn(output.shape[1:], generator=torch.Generator().manual_seed(first_clip + clip))
        for clip in range(len(output))
    ]
    return torch.stack(drawn)
