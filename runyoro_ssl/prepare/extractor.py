"""The base model's feature-extractor settings: all that preparation needs of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.torchaudio_compat import import_transformers


def load_feature_extractor(model_name_or_path: str) -> Any:
    """The Wav2Vec2FeatureExtractor of a local folder or a hub id.

    Raises:
        CheckpointError: It cannot be found, reached or understood.
    """
    transformers = import_transformers()
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(model_name_or_path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(cannot_load(model_name_or_path, "preprocessor_config.json", error)) from None
    if not isinstance(extractor, transformers.Wav2Vec2FeatureExtractor):
        raise CheckpointError(
            f'model "{model_name_or_path}": its feature extractor is {type(extractor).__name__}; '
            "this toolkit adapts wav2vec 2.0 models, which take raw audio"
        )
    return extractor


def cannot_load(model_name_or_path: str, needed: str, error: Exception) -> str:
    """One line on why a model did not load: a local folder, a path that is not there, or a hub out of reach."""
    if Path(model_name_or_path).is_dir():
        return f'model folder "{model_name_or_path}": cannot read {needed}: {_first_line(error)}'
    if model_name_or_path.startswith((".", "/", "~")) or model_name_or_path.count("/") > 1:
        return f'model "{model_name_or_path}": no such folder; give a folder saved by transformers, or a hub id'
    return (
        f'model "{model_name_or_path}": no such folder here, and the Hugging Face hub does not give its {needed}. '
        "Go online once, or copy the model into a folder and give that as --model-name-or-path"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
