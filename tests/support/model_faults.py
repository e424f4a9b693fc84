"""Model folders as people give them: each fault is made of a good one, in place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, PICKLED, CONFIG, EXTRACTOR = (
    "model.safetensors",
    "pytorch_model.bin",
    "config.json",
    "preprocessor_config.json",
)
LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 1269737156\n"

Fault = Callable[[Path], object]


def edit(name: str, **values: Any) -> Fault:
    """Other settings in a JSON file."""
    return lambda folder: (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **values}))


def write(name: str, content: bytes | str) -> Fault:
    """Another content of a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def remove(*names: str) -> Fault:
    """Files are gone."""

    def apply(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return apply


def cut(name: str, share: float) -> Fault:
    """A file ends early, as a copy to a full disk does."""
    return lambda folder: (folder / name).write_bytes((data := (folder / name).read_bytes())[: int(share * len(data))])


def together(*faults: Fault) -> Fault:
    """One after the other."""
    return lambda folder: [fault(folder) for fault in faults]


def reweigh(change: Callable[[dict[str, torch.Tensor]], object]) -> Fault:
    """Other weights: a function that changes them in place."""

    def apply(folder: Path) -> None:
        weights = {name: value.clone() for name, value in load_file(folder / WEIGHTS).items()}  # not the file
        change(weights)
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def rename(old: str, new: str) -> Fault:
    """Weights under other names."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if old in name]:
            weights[name.replace(old, new)] = weights.pop(name)

    return reweigh(change)


def shard(num_shards: int) -> Fault:
    """Weights in so many shards, with their index."""

    def apply(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        names = sorted(weights)
        places: dict[str, str] = {}
        for number in range(num_shards):
            file = f"model-{number + 1:05}-of-{num_shards:05}.safetensors"
            part = names[number::num_shards]
            save_file({name: weights[name].clone() for name in part}, folder / file, metadata={"format": "pt"})
            places |= dict.fromkeys(part, file)
        (folder / WEIGHTS).unlink()
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))

    return apply


def pickle_weights(folder: Path) -> None:
    """The weights as a `.bin` of torch."""
    torch.save(load_file(folder / WEIGHTS), folder / PICKLED)
    (folder / WEIGHTS).unlink()


def save_fairseq(path: Path) -> None:
    """A checkpoint as fairseq writes it: arguments that only its own code can read, and its own names."""
    model = {"mask_emb": torch.zeros(4), "post_extract_proj.weight": torch.zeros(4, 4)}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"args": SimpleNamespace(arch="wav2vec2"), "cfg": None, "model": model}, path)


def save_fairseq2(path: Path) -> None:
    """A checkpoint as fairseq2 writes it."""
    model = {
        "encoder_frontend.feature_extractor.layers.0.conv.weight": torch.zeros(4),
        "final_target_proj.bias": torch.zeros(4),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model}, path)


def hide_in(*names: str) -> Fault:
    """The model stands deeper than the folder that is given."""

    def apply(folder: Path) -> None:
        moved = folder.with_name(f"{folder.name}-moved")
        folder.rename(moved)
        folder.joinpath(*names[:-1]).mkdir(parents=True)
        shutil.move(moved, folder.joinpath(*names))

    return apply
