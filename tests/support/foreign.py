"""Files as fairseq2 and fairseq write them, made of transformers' own models."""

from __future__ import annotations

from pathlib import Path

import torch

from runyoro_ssl.foreign.names import Toolkit
from runyoro_ssl.torchaudio_compat import import_transformers


def theirs(name: str, toolkit: Toolkit, *, norms_first: bool = True) -> str:
    """What a toolkit calls a weight of transformers."""
    parts = name.split(".")
    number = next((part for part in parts if part.isdecimal() and f".{part}." in name), "0")
    for stem, to in toolkit.table.items():
        if "encoder_frontend.layer_norm" in stem and norms_first:
            continue
        for last in ("", ".weight", ".bias"):
            if to.replace("#", number) + last == name:
                return stem.replace("#", number if "#" in to else "0") + last
    raise KeyError(name)


def write_foreign(model: Path, file: Path, toolkit: Toolkit, **beside: object) -> Path:
    """A .pt of a toolkit with the weights of a folder. `beside`: what else is in it."""
    loaded = import_transformers().Wav2Vec2ForPreTraining.from_pretrained(model)
    weights = {theirs(name, toolkit): tensor for name, tensor in loaded.state_dict().items()}
    if toolkit.dropped:
        weights["quantizer.num_updates"] = torch.tensor(250_000)
    torch.save({**beside, "model": weights}, file)
    return file
