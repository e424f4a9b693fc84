"""The source of a base model, and its feature-extractor settings: all that preparation needs of it."""

from __future__ import annotations

import json
import os
import socket
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.torchaudio_compat import import_transformers

CONFIG, EXTRACTOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
"""Files of a model as transformers writes it."""
USUAL_EXTRACTOR = "Wav2Vec2FeatureExtractor"
CONNECT_SEC = 5.0
SAMPLING_RATES = range(4_000, 384_001)


def load_feature_extractor(model_name_or_path: str) -> Any:
    """The Wav2Vec2FeatureExtractor of a local folder or a hub id.

    Raises:
        CheckpointError: It cannot be found, reached or understood.
    """
    transformers = import_transformers()
    try:
        source = source_options(model_name_or_path)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(
            model_name_or_path, trust_remote_code=False, **source
        )
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


def load_sampling_rate(model_name_or_path: str) -> int:
    """The sampling rate of a base model, Hz: all that preparing recordings asks of it.

    Read from its `preprocessor_config.json` where that is a usual one, without the seconds that transformers takes to
    be imported.

    Raises:
        CheckpointError: As `load_feature_extractor`.
    """
    settings = _extractor_settings(model_name_or_path)
    rate = settings.get("sampling_rate")
    if settings.get("feature_extractor_type") == USUAL_EXTRACTOR and type(rate) is int and rate in SAMPLING_RATES:
        return rate
    return int(load_feature_extractor(model_name_or_path).sampling_rate)


def _extractor_settings(model_name_or_path: str) -> dict[str, Any]:
    """The content of the file; nothing where it is not as simple as that."""
    try:
        if Path(model_name_or_path).is_dir():
            path = str(Path(model_name_or_path) / EXTRACTOR)
        else:
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(model_name_or_path, EXTRACTOR, local_files_only=not hub_reachable())
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # as the hub's own errors are
        return {}
    return settings if isinstance(settings, dict) else {}


def source_options(model_name_or_path: str) -> dict[str, bool]:
    """Arguments for `from_pretrained`: when the hub is out of reach, only what was downloaded before.

    The hub client would retry for most of a minute, with a warning each time.
    """
    if Path(model_name_or_path).is_dir() or hub_reachable():
        return {}
    return {"local_files_only": True}


@cache
def hub_reachable() -> bool:
    """Whether the Hugging Face hub is worth asking: its client would find out in most of a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the client knows how to reach it
    address = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((str(address.hostname), address.port or 443), timeout=CONNECT_SEC):
            return True
    except OSError:
        return False


def cannot_load(model_name_or_path: str, needed: str, error: Exception) -> str:
    """One line on why a model did not load: a local folder, a path that is not there, or a hub out of reach."""
    if Path(model_name_or_path).is_dir():
        return f'model folder "{model_name_or_path}": cannot read {needed}: {_first_line(error)}; mend it'
    if model_name_or_path.startswith((".", "/", "~")) or model_name_or_path.count("/") > 1:
        return f'model "{model_name_or_path}": no such folder; give a folder saved by transformers, or a hub id'
    return (
        f'model "{model_name_or_path}": no such folder here, and the Hugging Face hub does not give its {needed}. '
        "Go online once, or copy the model into a folder and give that as --model-name-or-path"
    )


def _first_line(error: Exception) -> str:
    """What an error says first; where that only announces what follows, with it."""
    if isinstance(error, LookupError):
        return f"it names {error}, which transformers does not know"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[:2]) if lines[0].endswith(":") else lines[0]
