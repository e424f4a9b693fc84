"""A model as a source of features: the hidden states of chosen layers, as plain transformers gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from runyoro_ssl.config import Config, FittedHardware
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.embed.windows import Frames
from runyoro_ssl.errors import EmbedError
from runyoro_ssl.model.forward import encode
from runyoro_ssl.model.load import load_model
from runyoro_ssl.model.source import load_feature_extractor, pin_base
from runyoro_ssl.option import AUTO

LAST, ALL = "last", "all"
BEST_PHONES = 2 / 3
"""Of the way up: where layers tell phones apart best (Pasad et al., 2021, arXiv 2107.04734, for models like XLS-R)."""


@dataclass(frozen=True)
class Encoder:
    """A model on its device, in evaluation mode, and how it hears."""

    model: Any
    frames: Frames
    hardware: FittedHardware
    normalizes: bool

    @property
    def num_layers(self) -> int:
        """Layers of the Transformer."""
        return int(self.model.config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        """Numbers of a frame."""
        return int(self.model.config.hidden_size)

    def hidden_states(self, samples: np.ndarray, layers: Sequence[int]) -> np.ndarray:
        """Features of some layers: float32 (T,), normalised, -> float32 (F, len(layers), H).

        Layer 0 is the input of the Transformer, layer L the output of its last, before the norm that may follow:
        transformers' `hidden_states`.

        Raises:
            EmbedError: The device has too little memory for the window.
        """
        try:
            with torch.inference_mode(), self._precision():
                return self._run(samples, layers)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            seconds = len(samples) / self.frames.sample_rate
            raise EmbedError(
                f"the memory of {self.hardware.device} does not hold {seconds:.0f} s at once; give a shorter "
                "--window-sec, or --profile cpu-smoke"
            ) from None

    def _precision(self) -> torch.autocast:
        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        chosen = types.get(self.hardware.precision)
        return torch.autocast(self.hardware.device, chosen, enabled=chosen is not None)

    def _run(self, samples: np.ndarray, layers: Sequence[int]) -> np.ndarray:
        found: dict[int, torch.Tensor] = {}
        blocks = self.model.wav2vec2.encoder.layers

        def keep(layer: int, hidden: torch.Tensor) -> None:
            if layer in layers:
                found[layer] = hidden[0].float().cpu()

        hooks = [blocks[0].register_forward_pre_hook(lambda _, inputs: keep(0, inputs[0]))]
        hooks += [
            block.register_forward_hook(lambda _, __, output, layer=number: keep(layer, output))
            for number, block in enumerate(blocks, start=1)
        ]
        try:
            waveform = torch.from_numpy(samples)[None].to(self.hardware.device)
            time_mask = torch.zeros(1, self.frames.count(len(samples)), dtype=torch.bool, device=waveform.device)
            encode(self.model, waveform, attention_mask=None, time_mask=time_mask, feature_mask=None)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack([found[layer] for layer in layers], dim=1).numpy()


def load_encoder(config: Config) -> Encoder:
    """Load a model of a folder or of the hub, with or without a pre-training head.

    Raises:
        CheckpointError: It cannot be had, or is no wav2vec 2.0 model.
    """
    source = pin_base(config.model)
    extractor = load_feature_extractor(source.model_name_or_path, source.revision)
    hardware = _fit(config)
    model = load_model(source.model_copy(update={"allow_new_head": True}), hardware).eval().to(hardware.device)
    return Encoder(model, Frames.of(model.config, extractor.sampling_rate), hardware, bool(extractor.do_normalize))


def _fit(config: Config) -> FittedHardware:
    """What `auto` means for features: fp32, so that they are the same everywhere."""
    chosen = dict(config.hardware)
    precision = "fp32" if chosen["precision"] == AUTO else chosen["precision"]
    fixed: dict[str, Any] = {"batch_seconds": 1.0, "plan_seconds": 1.0, "clip_lengths": 0, "dataloader_num_workers": 0}
    fixed |= {"gradient_checkpointing": False, "compile": False, "precision": precision}
    return FittedHardware(**{**chosen, **fixed})


def choose_layers(asked: str | None, num_layers: int) -> list[int]:
    """The layers that a word asks for: a number, `last`, `all`; not given, the one where phones are told apart best.

    Raises:
        EmbedError: There is no such layer.
    """
    if asked is None:
        return [round(BEST_PHONES * num_layers)]
    if asked == ALL:
        return list(range(num_layers + 1))
    if asked == LAST:
        return [num_layers]
    if asked.isdecimal() and int(asked) <= num_layers:
        return [int(asked)]
    raise EmbedError(f'--layer is "{asked}"; there are 0 (what the first is given) to {num_layers}, last, and all')
