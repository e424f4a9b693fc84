"""What is compared: models of any folder, log-mel spectra, and random weights of the same shape; their features."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from runyoro_ssl.batches.build import NORMALISATION_EPSILON
from runyoro_ssl.disk.durable import sha256
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.record import LOG_MEL, RANDOM
from runyoro_ssl.model.attention import use_fast_attention
from runyoro_ssl.model.draws import derive_seed
from runyoro_ssl.model.folder import check_folder
from runyoro_ssl.model.forward import encode
from runyoro_ssl.model.load import UNREADABLE
from runyoro_ssl.model.source import FROM_A_FOLDER, cannot_load, load_feature_extractor
from runyoro_ssl.torchaudio_compat import import_transformers

MEL_BANDS = 80
FRAME_SAMPLES, HOP_SAMPLES = 400, 320
"""Of the frames of wav2vec 2.0 at 16 kHz: 25 ms, every 20 ms."""
HEADS = ("quantizer.", "project_q.", "project_hid.", "wav2vec2.masked_spec_embed")
"""Weights of pre-training, without which there is no loss."""
MASKED = 0.05
"""Any share but 0."""


class Subject(Protocol):
    """What gives features of a clip."""

    @property
    def name(self) -> str:
        """Of the subject: one of `record.SUBJECTS`, or a candidate's."""

    @property
    def key(self) -> str:
        """What its features depend on."""

    @property
    def num_layers(self) -> int:
        """Layers, the input of the first among them."""

    def features(self, waveform: np.ndarray) -> list[np.ndarray]:
        """Of a clip, float32 (T,) in [-1, 1]: float32 (F, H) of each layer."""


@dataclass(frozen=True)
class LogMel:
    """80 log-mel bands of the frames that the models have: what a model must beat to have learned anything."""

    sampling_rate: int
    name: str = LOG_MEL
    key: str = "log-mel-1"
    num_layers: int = 1

    def features(self, waveform: np.ndarray) -> list[np.ndarray]:
        """Normalised over the clip, in natural logarithms: one layer of float32 (F, 80)."""
        frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME_SAMPLES)[::HOP_SAMPLES]
        power = np.abs(np.fft.rfft(frames * np.hanning(FRAME_SAMPLES).astype(np.float32))) ** 2
        bands = np.log(power @ _mel_bands(self.sampling_rate).T + 1e-10)
        return [np.asarray((bands - bands.mean(0)) / (bands.std(0) + 1e-5), np.float32)]


def _mel_bands(sampling_rate: int) -> np.ndarray:
    """Triangles on the mel scale of O'Shaughnessy (1987), float64 (bands, bins)."""
    top = 2595 * np.log10(1 + sampling_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, MEL_BANDS + 2) / 2595) - 1)
    hertz = np.linspace(0, sampling_rate / 2, FRAME_SAMPLES // 2 + 1)
    up = (hertz - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    down = (corners[2:, None] - hertz) / (corners[2:] - corners[1:-1])[:, None]
    return np.maximum(0, np.minimum(up, down))


@dataclass
class Network:
    """A model that is loaded. `head`: the Wav2Vec2ForPreTraining, where its folder holds one."""

    name: str
    key: str
    model: Any
    head: Any
    config: Any
    device: torch.device
    dtype: torch.dtype | None
    """Of autocast; None for fp32."""
    do_normalize: bool

    @property
    def num_layers(self) -> int:
        """Layers of the Transformer, and its input."""
        return int(self.config.num_hidden_layers) + 1

    def prepare(self, waveform: np.ndarray) -> torch.Tensor:
        """A clip as the model takes it: float32 (1, T), on its device, normalised as its extractor says."""
        if self.do_normalize:
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + NORMALISATION_EPSILON)
        return torch.from_numpy(np.asarray(waveform, np.float32))[None].to(self.device)

    def autocast(self) -> torch.autocast:
        """The precision that is computed in."""
        return torch.autocast(self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    @torch.no_grad()
    def features(self, waveform: np.ndarray) -> list[np.ndarray]:
        """The input of each layer, then the output of the last: `hidden_states` of transformers, float32 (F, H)."""
        inputs = self.prepare(waveform)
        with self.autocast():
            states = [state[0].float().cpu().numpy() for state in _states_of(self.model, inputs)]
        if not all(np.isfinite(state).all() for state in states):
            raise EvaluationError(f"the {self.name} model gives features that are no finite numbers: it is damaged")
        return states


def _states_of(model: Any, inputs: torch.Tensor) -> list[torch.Tensor]:
    """The hidden states of one clip; of wav2vec 2.0 by the fast forward pass."""
    if not hasattr(model, "wav2vec2"):
        return list(model(inputs, output_hidden_states=True).hidden_states)
    seen: list[torch.Tensor] = []
    layers = model.wav2vec2.encoder.layers
    hooks = [layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for layer in layers]
    try:
        from runyoro_ssl.model.forward import num_frames

        frames = int(num_frames(torch.tensor(inputs.shape[1]), model.config))
        nothing = torch.zeros(1, frames, dtype=torch.bool, device=inputs.device)
        context, _ = encode(model, inputs, attention_mask=None, time_mask=nothing, feature_mask=None)
    finally:
        for hook in hooks:
            hook.remove()
    return [*seen, context]


@contextmanager
def open_network(
    name: str, folder: Path, *, device: str, dtype: torch.dtype | None, is_random: bool = False
) -> Iterator[Network]:
    """Load a model, in evaluation mode; it is gone when the block ends.

    `is_random`: the same shape with weights as they are drawn, from a seed that is always the same.

    Raises:
        EvaluationError: It cannot be read, or is none that hears raw audio.
    """
    transformers = import_transformers()
    extractor = load_feature_extractor(str(folder))
    check_folder(str(folder), weights=not is_random)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **FROM_A_FOLDER)
        has_kind = config.model_type == "wav2vec2"
        if has_kind and not config.mask_time_prob:
            config.mask_time_prob = MASKED  # else transformers leaves out the embedding of what is masked
        kind: Any = transformers.Wav2Vec2ForPreTraining if has_kind else transformers.AutoModel
        if is_random:
            torch.manual_seed(derive_seed("evaluate", RANDOM))
            model, missing = (kind(config) if has_kind else kind.from_config(config)), {"all"}
        else:
            model, info = kind.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, weights_only=True, **FROM_A_FOLDER
            )
            missing = set(info["missing_keys"])
    except UNREADABLE as error:
        raise EvaluationError(cannot_load(str(folder), "the model", error)) from None
    if has_kind and device == "cpu":
        use_fast_attention(model)
    lacks_head = not has_kind or is_random or any(key.startswith(HEADS) for key in missing)
    if not is_random and any(not key.startswith(HEADS) for key in missing):
        lacking = sorted(key for key in missing if not key.startswith(HEADS))
        raise EvaluationError(f"{folder}: {len(lacking)} weights are missing, {lacking[0]} first; it is not whole")
    if math.prod(config.conv_stride) != HOP_SAMPLES:
        raise EvaluationError(
            f"{folder}: its frames are {math.prod(config.conv_stride)} samples apart, not {HOP_SAMPLES}"
        )
    model = model.eval().to(device)
    yield Network(
        name,
        key_of(folder, is_random=is_random) + (f"-{dtype}".replace("torch.", "") if dtype else ""),
        model,
        None if lacks_head else model,
        config,
        torch.device(device),
        dtype,
        bool(extractor.do_normalize),
    )


def key_of(folder: Path, *, is_random: bool = False) -> str:
    """What the features of a model depend on: its weights and settings, not where they lie."""
    digest = hashlib.sha256()
    for file in ("config.json", "preprocessor_config.json"):
        path = folder / file
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        settings = {
            name: value for name, value in settings.items() if not name.startswith("_") and "version" not in name
        }
        digest.update(json.dumps(settings, sort_keys=True).encode())
    weights = [] if is_random else sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
    for path in weights:
        digest.update(sha256(path).encode())
    return digest.hexdigest()[:16]
