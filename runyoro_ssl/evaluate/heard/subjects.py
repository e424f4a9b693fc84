"""What is compared: models of any folder, log-mel spectra, and random weights of the same shape; their features."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from runyoro_ssl.batches.build import NORMALISATION_EPSILON
from runyoro_ssl.config import FittedHardware, ModelConfig
from runyoro_ssl.disk.durable import sha256
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.grid import GRID
from runyoro_ssl.evaluate.record import LOG_MEL
from runyoro_ssl.model.listener import HALVES, Listener, load_listener

MEL_BANDS = 80


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
        frames = np.lib.stride_tricks.sliding_window_view(waveform, GRID.receptive)[:: GRID.stride]
        power = np.abs(np.fft.rfft(frames * np.hanning(GRID.receptive).astype(np.float32))) ** 2
        bands = np.log(power @ _mel_bands(self.sampling_rate).T + 1e-10)
        return [np.asarray((bands - bands.mean(0)) / (bands.std(0) + 1e-5), np.float32)]


def _mel_bands(sampling_rate: int) -> np.ndarray:
    """Triangles on the mel scale of O'Shaughnessy (1987), float64 (bands, bins)."""
    top = 2595 * np.log10(1 + sampling_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, MEL_BANDS + 2) / 2595) - 1)
    hertz = np.linspace(0, sampling_rate / 2, GRID.receptive // 2 + 1)
    up = (hertz - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    down = (corners[2:, None] - hertz) / (corners[2:] - corners[1:-1])[:, None]
    return np.maximum(0, np.minimum(up, down))


@dataclass(frozen=True)
class Network:
    """A model that is loaded. `key`: what its features depend on."""

    name: str
    key: str
    listener: Listener

    @property
    def head(self) -> Any:
        """The Wav2Vec2ForPreTraining, where its folder holds one; else None."""
        return self.listener.model if self.listener.has_head else None

    @property
    def num_layers(self) -> int:
        """Layers of the Transformer, and its input."""
        return self.listener.num_layers + 1

    def prepare(self, waveform: np.ndarray) -> torch.Tensor:
        """A clip as the model takes it: float32 (1, T), on its device, normalised as its extractor says."""
        if self.listener.normalizes:
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + NORMALISATION_EPSILON)
        return torch.from_numpy(np.asarray(waveform, np.float32))[None].to(self.listener.hardware.device)

    def autocast(self) -> torch.autocast:
        """The precision that is computed in."""
        return self.listener.autocast()

    def features(self, waveform: np.ndarray) -> list[np.ndarray]:
        """The input of each layer, and what the model gives at last: float32 (F, H) each."""
        inputs = range(self.listener.num_layers)
        hidden, last = self.listener.hidden_states(self.prepare(waveform), inputs)
        states = [*(hidden[layer].numpy() for layer in inputs), last.numpy()]
        if not all(np.isfinite(state).all() for state in states):
            raise EvaluationError(f"the {self.name} model gives features that are no finite numbers: it is damaged")
        return states


def open_network(name: str, folder: Path, hardware: FittedHardware, *, is_random: bool = False) -> Network:
    """Load a model, in evaluation mode.

    `is_random`: the same shape with weights as they are drawn, from a seed that is always the same.

    Raises:
        CheckpointError: It cannot be read, or is no wav2vec 2.0 model.
        EvaluationError: It cuts time into other frames.
    """
    listener = load_listener(ModelConfig(model_name_or_path=str(folder)), hardware, is_random=is_random)
    if (frames := listener.frames) != GRID:
        raise EvaluationError(
            f"{folder}: its frames are of {frames.receptive} samples, {frames.stride} apart, at {frames.sample_rate} Hz"
            f"; what is compared here are models with frames of {GRID.receptive}, {GRID.stride} apart, at "
            f"{GRID.sample_rate} Hz"
        )
    half = HALVES.get(hardware.precision)
    key = key_of(folder, is_random=is_random) + (f"-{half}".replace("torch.", "") if half else "")
    return Network(name, key, listener)


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
    weights = [] if is_random else sorted([*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")])
    for path in weights:
        digest.update(sha256(path).encode())
    return digest.hexdigest()[:16]
