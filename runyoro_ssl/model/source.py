"""The source of a base model, and its feature-extractor settings: all that preparation needs of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.hub.cached import ModelPart, cached_commit
from runyoro_ssl.hub.known import KNOWN, SAMPLING_RATE
from runyoro_ssl.torchaudio_compat import import_transformers

if TYPE_CHECKING:
    from runyoro_ssl.config import ModelConfig  # the bench runs where there is no pydantic

CONFIG, EXTRACTOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
"""Files of a model as transformers writes it."""
RUN_FILE, RESULT_FILE = "run.toml", "result.json"
"""Beside them, in the folder of a run: its resolved configuration, without secrets; and at its end, for the model card
and for scripts, what it came to: its validations, steps and hours."""
USUAL_EXTRACTOR = "Wav2Vec2FeatureExtractor"
FROM_A_FOLDER: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Arguments for `from_pretrained`: nothing is asked of the hub, and no code of a model is run."""
SAMPLING_RATES = range(4_000, 384_001)


def model_folder(model_name_or_path: str, revision: str | None, *parts: ModelPart) -> Path:
    """The folder that holds these parts of a model: the one given, or the hub's, fetched into the hub's cache.

    Raises:
        CheckpointError: It is not there, or cannot be fetched.
    """
    if Path(model_name_or_path).is_dir():
        return Path(model_name_or_path)
    from runyoro_ssl.hub.fetch import fetched_folder  # the bench runs where there is no progress bar

    return fetched_folder(model_name_or_path, revision, *parts)


def base_folder(config: ModelConfig, *parts: ModelPart) -> Path:
    """The folder that holds these parts of the base model: its own, or the hub's, fetched into the hub's cache.

    Raises:
        CheckpointError: It is not there, or cannot be fetched.
    """
    return model_folder(config.model_name_or_path, config.revision, *parts)


def pin_base(config: ModelConfig) -> ModelConfig:
    """Fetch all of the base model, and name the commit that it is of: what is loaded from then on is that.

    Raises:
        CheckpointError: As `base_folder`.
    """
    commit = cached_commit(base_folder(config, "config", "extractor", "weights"))
    return config.model_copy(update={"revision": commit})


def load_feature_extractor(model_name_or_path: str, revision: str | None = None) -> Any:
    """The Wav2Vec2FeatureExtractor of a local folder or a hub id.

    Raises:
        CheckpointError: It cannot be found, reached or understood.
    """
    transformers = import_transformers()
    folder = model_folder(model_name_or_path, revision, "config", "extractor")
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **FROM_A_FOLDER)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(cannot_load(model_name_or_path, EXTRACTOR, error)) from None
    if not isinstance(extractor, transformers.Wav2Vec2FeatureExtractor):
        raise CheckpointError(
            f'model "{model_name_or_path}": its feature extractor is {type(extractor).__name__}; '
            "this toolkit adapts wav2vec 2.0 models, which take raw audio"
        )
    rate = extractor.sampling_rate
    if not isinstance(rate, int) or rate not in SAMPLING_RATES:
        raise CheckpointError(f'model "{model_name_or_path}": {EXTRACTOR} gives sampling_rate {rate!r}; mend it')
    return extractor


def load_sampling_rate(model_name_or_path: str, revision: str | None = None) -> int:
    """The sampling rate of a base model, Hz: all that preparing recordings asks of it.

    That of a known model is known: no hub is asked, and `train` sees whether it is so. Else it is read from
    `preprocessor_config.json` where that is a usual one, without the seconds that transformers takes to be imported.

    Raises:
        CheckpointError: As `load_feature_extractor`.
    """
    if model_name_or_path in KNOWN and not Path(model_name_or_path).is_dir():
        return SAMPLING_RATE
    settings = _extractor_settings(model_folder(model_name_or_path, revision, "extractor"))
    rate = settings.get("sampling_rate")
    if settings.get("feature_extractor_type") == USUAL_EXTRACTOR and type(rate) is int and rate in SAMPLING_RATES:
        return rate
    return int(load_feature_extractor(model_name_or_path, revision).sampling_rate)


def _extractor_settings(folder: Path) -> dict[str, Any]:
    """The content of the file; nothing where it is not as simple as that."""
    try:
        settings = json.loads((folder / EXTRACTOR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def cannot_load(model_name_or_path: str, needed: str, error: Exception) -> str:
    """One line on why a model did not load: of a local folder, or of what the hub gave."""
    kind = "model folder" if Path(model_name_or_path).is_dir() else "model"
    return f'{kind} "{model_name_or_path}": cannot read {needed}: {_first_line(error)}; mend it'


def _first_line(error: Exception) -> str:
    """What an error says first; where that only announces what follows, with it."""
    if isinstance(error, LookupError):
        return f"it names {error}, which transformers does not know"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[:2]) if lines[0].endswith(":") else lines[0]
