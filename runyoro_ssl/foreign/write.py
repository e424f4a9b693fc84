"""A checkpoint of fairseq2 or fairseq written as transformers would write it: weights, settings, feature extractor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from runyoro_ssl.disk.durable import new_folder, write_json
from runyoro_ssl.disk.lock import FolderLock, Words
from runyoro_ssl.errors import ConvertError
from runyoro_ssl.foreign.names import FAIRSEQ2
from runyoro_ssl.foreign.note import NOTE, Origin, source_of
from runyoro_ssl.foreign.read import Checkpoint, read_checkpoint
from runyoro_ssl.foreign.shape import EXTRACTOR_SETTINGS, read_shape
from runyoro_ssl.torchaudio_compat import import_transformers

MAX_NAMED, MAX_SAID = 3, 300


@dataclass(frozen=True)
class Converted:
    """A folder that transformers reads, what it was made from, and how much there is of it."""

    folder: Path
    toolkit: str
    num_weights: int
    temperature: float | None


def convert_file(path: Path, folder: Path, *, num_heads: int | None = None, origin: Origin | None = None) -> Converted:
    """Write `folder`, which must not exist, whole or not at all.

    Args:
        path: A .pt of fairseq2 or fairseq.
        folder: To be written.
        num_heads: Of attention, where the model is none of the published sizes.
        origin: Where the file was fetched from.

    Raises:
        ConvertError: The file is no pre-trained wav2vec 2.0 model, its weights do not fit each other, or another
            process is writing the folder.
    """
    if folder.exists():
        raise ConvertError(f"{folder}: is there; give another --output-dir, or remove it")
    checkpoint = read_checkpoint(path)
    try:
        settings = settings_of(checkpoint, num_heads=num_heads)
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}") from None
    _check_fit(path, checkpoint, settings)
    num_weights = sum(tensor.numel() for tensor in checkpoint.weights.values())
    made = Converted(folder, checkpoint.toolkit.name, num_weights, checkpoint.temperature)
    with _lock(folder), new_folder(folder) as unfinished:
        weights = dict(_as_written(checkpoint.weights))
        try:
            save_file(weights, unfinished / "model.safetensors", metadata={"format": "pt"})
        except SafetensorError as error:  # no OSError, though it is the disk's
            needed = f"{4 * num_weights / 1e9:.1f} GB"
            raise ConvertError(
                f"{folder}: {needed} could not be written ({error}); make room if that is why, run again"
            ) from None
        write_json(unfinished / "config.json", settings)
        write_json(unfinished / "preprocessor_config.json", EXTRACTOR_SETTINGS)
        note = {"toolkit": made.toolkit, "num_weights": made.num_weights, "temperature": made.temperature}
        write_json(unfinished / NOTE, {**note, **source_of(path), **(origin._asdict() if origin else {})})
    return made


def _lock(folder: Path) -> FolderLock:
    """The lock beside a folder by which one process writes it, of several that begin with one model."""
    return FolderLock(
        folder.with_name(f".{folder.name}.lock"), Words("invoke convert", folder, "Run again", ConvertError)
    )


def settings_of(checkpoint: Checkpoint, *, num_heads: int | None = None) -> dict[str, Any]:
    """The content of its config.json.

    Raises:
        ConvertError: As `read_shape`.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.weights.items()}
    return {
        "model_type": "wav2vec2",
        **read_shape(
            shapes,
            norms_first=checkpoint.norms_first,
            is_omnilingual=checkpoint.toolkit is FAIRSEQ2,
            num_heads=num_heads,
        ),
    }


def _as_written(weights: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights as safetensors takes them: fp32, and none in the memory of another, as tied ones are."""
    taken = set()
    for name, tensor in weights.items():
        plain = tensor.to(torch.float32).contiguous()
        place = plain.untyped_storage().data_ptr()
        yield name, plain.clone() if place in taken else plain
        taken.add(place)


def _check_fit(path: Path, checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Every weight of the model is there, in its shape, and no other."""
    transformers = import_transformers()
    try:
        with torch.device("meta"):
            wanted = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**settings)).state_dict()
    except Exception as error:  # noqa: BLE001 - of transformers, its validators and torch, each in a way of its own
        said = " ".join(str(error).split())[:MAX_SAID]
        raise ConvertError(f"{path}: its weights make no wav2vec 2.0 model: {said}; download it anew") from None
    weights = checkpoint.weights
    problems = [f"lacks {name}" for name in wanted.keys() - weights.keys()]
    problems += [f"has {name}, which it should not" for name in weights.keys() - wanted.keys()]
    problems += [
        f"has {name} of {tuple(weights[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted.keys() & weights.keys()
        if weights[name].shape != wanted[name].shape
    ]
    if problems:
        named = "; ".join(sorted(problems)[:MAX_NAMED])
        raise ConvertError(f"{path}: its weights do not fit each other ({len(problems)}): it {named}")
    if wrong := next((name for name, tensor in weights.items() if not tensor.is_floating_point()), None):
        raise ConvertError(f"{path}: {wrong} is of type {weights[wrong].dtype}, expected a floating point number")
