"""The source of a base model: the folder that it is read from, and the names of the files in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl.hub.cached import ModelPart, cached_commit

if TYPE_CHECKING:
    from runyoro_ssl.config import ModelConfig  # the bench runs where there is no pydantic

CONFIG, EXTRACTOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
"""Files of a model as transformers writes it."""
SUFFIXES = (".json", ".safetensors", ".bin")
"""Of all that is read of a model."""
RUN_FILE, RESULT_FILE = "run.toml", "result.json"
"""Beside them, in the folder of a run: its resolved configuration, without secrets; and at its end, for the model card
and for scripts, what it came to: its validations, steps and hours."""
FROM_A_FOLDER: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Arguments for `from_pretrained`: nothing is asked of the hub, and no code of a model is run."""


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


def cannot_load(model_name_or_path: str, needed: str, error: Exception) -> str:
    """One line on why a model did not load: of a local folder, or of what the hub gave."""
    if isinstance(error, OSError) and error.filename and Path(error.filename).suffix not in SUFFIXES:
        return (
            f"{error.filename}: {error.strerror}; a library keeps files there, not the model: set TMPDIR, HOME, or the "
            "variable that leads there (HF_HOME, TORCHINDUCTOR_CACHE_DIR) to a folder that you may write into"
        )
    kind = "model folder" if Path(model_name_or_path).is_dir() else "model"
    return f'{kind} "{model_name_or_path}": cannot read {needed}: {_first_line(error)}; mend it'


def _first_line(error: Exception) -> str:
    """What an error says first; where that only announces what follows, with it."""
    if isinstance(error, LookupError):
        return f"it names {error}, which transformers does not know"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[:2]) if lines[0].endswith(":") else lines[0]
