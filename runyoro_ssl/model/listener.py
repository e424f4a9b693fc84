"""A model that only listens: on its device, in evaluation mode; the hidden states of its layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from runyoro_ssl.config import FittedHardware, HardwareConfig, ModelConfig
from runyoro_ssl.model.allocator import limit_program_caches
from runyoro_ssl.model.extractor import load_feature_extractor
from runyoro_ssl.model.forward import encode
from runyoro_ssl.model.frames import Frames
from runyoro_ssl.model.load import draw_model, load_whatever_head
from runyoro_ssl.option import AUTO

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Listener:
    """A Wav2Vec2ForPreTraining, and how it hears. `has_head`: its quantizer and projections were learned."""

    model: Any
    frames: Frames
    hardware: FittedHardware
    normalizes: bool
    has_head: bool

    @property
    def num_layers(self) -> int:
        """Layers of the Transformer."""
        return int(self.model.config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        """Numbers of a frame."""
        return int(self.model.config.hidden_size)

    def autocast(self) -> torch.autocast:
        """The precision that it computes in."""
        chosen = HALVES.get(self.hardware.precision)
        return torch.autocast(self.hardware.device, chosen, enabled=chosen is not None)

    @torch.no_grad()
    def hidden_states(
        self, waveform: torch.Tensor, layers: Iterable[int]
    ) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
        """Features of some layers, and what the model gives at last: float32 (F, H) each, on the CPU.

        Layer 0 is the input of the Transformer, layer L the output of its last, before the norm that may follow:
        transformers' `hidden_states`; with that norm it is what comes at last.

        Args:
            waveform: float32 (1, T), normalised as the feature extractor asks.
            layers: Which.
        """
        wanted, found = set(layers), dict[int, torch.Tensor]()
        blocks = self.model.wav2vec2.encoder.layers

        def keep(layer: int, hidden: torch.Tensor) -> None:
            if layer in wanted:
                found[layer] = hidden[0].float().cpu()

        hooks = [blocks[0].register_forward_pre_hook(lambda _, inputs: keep(0, inputs[0]))]
        hooks += [
            block.register_forward_hook(lambda _, __, output, layer=number: keep(layer, output))
            for number, block in enumerate(blocks, start=1)
        ]
        try:
            waveform = waveform.to(self.hardware.device)
            nothing = torch.zeros(1, self.frames.count(waveform.shape[1]), dtype=torch.bool, device=waveform.device)
            with self.autocast():
                context, _ = encode(self.model, waveform, attention_mask=None, time_mask=nothing, feature_mask=None)
        finally:
            for hook in hooks:
                hook.remove()
        return found, context[0].float().cpu()


def without_upper_layers(listener: Listener, layer: int) -> None:
    """Take the layers above one out of a model, for what hears that one alone: half the time where it is the middle."""
    del listener.model.wav2vec2.encoder.layers[max(1, layer) :]


def to_listen(hardware: HardwareConfig, *, precision: str | None = None) -> FittedHardware:
    """What `auto` means where nothing is learned; its precision, if none is given, is fp32, the same everywhere."""
    chosen: dict[str, Any] = dict(hardware)
    precision = precision or ("fp32" if chosen["precision"] == AUTO else chosen["precision"])
    fixed: dict[str, Any] = {"batch_seconds": 1.0, "plan_seconds": 1.0, "clip_lengths": 0, "dataloader_num_workers": 0}
    fixed |= {"gradient_checkpointing": False, "compile": False, "precision": precision}
    return FittedHardware(**{**chosen, **fixed})


def load_listener(config: ModelConfig, hardware: FittedHardware, *, is_random: bool = False) -> Listener:
    """Load a model of a folder or of the hub, with or without a pre-training head.

    `is_random`: the same shape with weights as they are drawn, from a seed that is always the same.

    Raises:
        CheckpointError: It cannot be had, or is no wav2vec 2.0 model.
    """
    limit_program_caches()  # before the first product, if nothing was computed yet
    extractor = load_feature_extractor(config.model_name_or_path, config.revision)
    model, has_head = (draw_model(config, hardware), False) if is_random else load_whatever_head(config, hardware)
    frames = Frames.of(model.config, extractor.sampling_rate)
    return Listener(model.eval().to(hardware.device), frames, hardware, bool(extractor.do_normalize), has_head)
