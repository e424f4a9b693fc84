"""What of a base model must come from the hub before a run can start."""

from __future__ import annotations

from pathlib import Path

from runyoro_ssl.model.source import WEIGHTS
from runyoro_ssl.train.disk_space import Need

PICKLED = "pytorch_model.bin"
KNOWN_BYTES = {
    "facebook/wav2vec2-base": 380_000_000,
    "facebook/wav2vec2-large-xlsr-53": 1_270_000_000,
    "facebook/wav2vec2-xls-r-300m": 1_270_000_000,
    "facebook/wav2vec2-xls-r-1b": 3_850_000_000,
    "facebook/mms-300m": 1_270_000_000,
}
"""Weights of four bytes a parameter, as the hub has them: known without asking it."""


def missing_download(model_name_or_path: str) -> Need | None:
    """What must be fetched; None for a folder, for what is in the cache, and for what is no name on the hub."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(model_name_or_path).exists():
        return None
    try:
        cached = [try_to_load_from_cache(model_name_or_path, name) for name in (WEIGHTS, PICKLED)]
    except HFValidationError:  # whoever loads it says what is wrong
        return None
    if any(isinstance(path, str) for path in cached):
        return None
    known = KNOWN_BYTES.get(model_name_or_path)
    return Need(f"download of {model_name_or_path}", Path(constants.HF_HUB_CACHE), known)
