"""Mixtures of models: weights between a base and an adapted model, and the mean of several; as plain models."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from runyoro_ssl.disk.temporary import TEMPORARY
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.model.load import UNREADABLE, read_model_config
from runyoro_ssl.model.source import EXTRACTOR, FROM_A_FOLDER, WEIGHTS, cannot_load
from runyoro_ssl.torchaudio_compat import import_transformers


@contextmanager
def mixed(parts: Sequence[tuple[Path, float]], *, inside: Path | None = None) -> Iterator[Path]:
    """A folder with the weighted sum of models of one shape, for as long as the block lasts.

    `inside`: the folder that it is made in; None: where the system has its own.

    Interpolation with the base: Speech-FT, Lin et al., 2025, arXiv 2502.12672; means of checkpoints: Izmailov et al.,
    2018, arXiv 1803.05407. Settings and feature extractor are those of the last.

    Raises:
        EvaluationError: They have other weights, or other shapes.
    """
    with TemporaryDirectory(prefix=f"{TEMPORARY}runyoro-mixture-", dir=inside) as folder:
        write_mixture(parts, Path(folder))
        yield Path(folder)


def write_mixture(parts: Sequence[tuple[Path, float]], folder: Path) -> None:
    """Write the weighted sum of models into a folder, as transformers loads them: whatever names and files they have.

    Raises:
        EvaluationError: As `mixed`.
    """
    target = _load(parts[-1][0])
    states = [_weights(model, target.state_dict().keys()) for model, _ in parts]
    _compare(parts, states)
    for name, tensor in target.state_dict().items():
        if tensor.is_floating_point():
            sums = (share * state[name].double() for (_, share), state in zip(parts, states, strict=True))
            tensor.copy_(sum(sums))
    target.save_pretrained(folder)
    shutil.copyfile(parts[-1][0] / EXTRACTOR, folder / EXTRACTOR)


def check_alike(parts: Sequence[tuple[Path, float]]) -> None:
    """Check by their settings alone, before anything is heard, that models are of shapes that mix.

    Raises:
        EvaluationError: They are not.
        CheckpointError: One has no settings that can be read.
    """
    _compare(parts, [_shape(model).state_dict() for model, _ in parts])


def _compare(parts: Sequence[tuple[Path, float]], states: Sequence[Mapping[str, torch.Tensor]]) -> None:
    for (model, _), state in zip(parts, states, strict=True):
        for name, tensor in states[-1].items():
            if name not in state or state[name].shape != tensor.shape:
                raise EvaluationError(f"{parts[-1][0]} and {model} have other weights, {name} first; they do not mix")


def _shape(folder: Path) -> Any:
    """A model of a folder's settings, without weights."""
    transformers = import_transformers()
    try:
        settings = read_model_config(str(folder), folder)
        with torch.device("meta"):
            return transformers.Wav2Vec2ForPreTraining(settings)
    except UNREADABLE as error:
        raise EvaluationError(cannot_load(str(folder), "the model", error)) from None


def _load(folder: Path) -> Any:
    """A Wav2Vec2ForPreTraining, with all of its head."""
    read_model_config(str(folder), folder)
    try:
        model, info = import_transformers().Wav2Vec2ForPreTraining.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, weights_only=True, **FROM_A_FOLDER
        )
    except UNREADABLE as error:
        raise EvaluationError(cannot_load(str(folder), "the model", error)) from None
    if info["missing_keys"]:
        raise EvaluationError(f"{folder}: {min(info['missing_keys'])} is not in it; mixtures are of whole models")
    return model


def _weights(folder: Path, names: Collection[str]) -> Mapping[str, torch.Tensor]:
    """The weights of a folder; of a file that has them by these names, as a run writes it, read as they are needed."""
    with suppress(OSError, SafetensorError):
        found = load_file(folder / WEIGHTS)
        if found.keys() >= set(names):
            return found
    return _load(folder).state_dict()  # type: ignore[no-any-return]  # of a model


def interpolation(base: Path, adapted: Path, share: float) -> list[tuple[Path, float]]:
    """`share` of the adapted model, the rest of the base: 1 is the adapted model."""
    return [(base, 1 - share), (adapted, share)]


def average(models: Sequence[Path]) -> list[tuple[Path, float]]:
    """The mean of models."""
    return [(model, 1 / len(models)) for model in models]
