"""A model as a source of features: the hidden states of chosen layers, as plain transformers gives them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from runyoro_ssl.config import Config
from runyoro_ssl.devices import is_out_of_memory
from runyoro_ssl.errors import EmbedError
from runyoro_ssl.model.listener import Listener, load_listener, to_listen
from runyoro_ssl.model.source import pin_base

LAST, ALL = "last", "all"
BEST_PHONES = 2 / 3
"""Of the way up: where layers tell phones apart best (Pasad et al., 2021, arXiv 2107.04734, for models like XLS-R)."""


def load_encoder(config: Config) -> Listener:
    """Load a model of a folder or of the hub, with or without a pre-training head; in fp32, if nothing else is asked.

    Raises:
        CheckpointError: It cannot be had, or is no wav2vec 2.0 model.
    """
    return load_listener(pin_base(config.model), to_listen(config.hardware))


def key_of_weights(encoder: Listener) -> str:
    """What the features of a model depend on, but for its precision: all that it has learned, wherever it lies."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.model.wav2vec2.state_dict().items()):
        if name != "masked_spec_embed":  # drawn where a file lacks it, and nothing is masked here
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def features_of(encoder: Listener, samples: np.ndarray, layers: Sequence[int]) -> np.ndarray:
    """Features of some layers: float32 (T,), normalised, -> float32 (F, len(layers), H).

    Raises:
        EmbedError: The device has too little memory for the window.
    """
    try:
        states, _ = encoder.hidden_states(torch.from_numpy(samples)[None], layers)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        seconds = len(samples) / encoder.frames.sample_rate
        raise EmbedError(
            f"the memory of {encoder.hardware.device} does not hold {seconds:.0f} s at once; give a shorter "
            "--window-sec, or --profile cpu-smoke"
        ) from None
    return torch.stack([states[layer] for layer in layers], dim=1).numpy()


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
