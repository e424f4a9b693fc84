"""The settings of a model's feature extractor: checked, then given to the one class that reads them here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.foreign.signs import is_foreign
from runyoro_ssl.hub.known import KNOWN, SAMPLING_RATE, full_name
from runyoro_ssl.model.folder import explain_shadow, find_extractor
from runyoro_ssl.model.source import EXTRACTOR, FROM_A_FOLDER, cannot_load, model_folder
from runyoro_ssl.redaction import shortly
from runyoro_ssl.torchaudio_compat import import_transformers

USUAL = "Wav2Vec2FeatureExtractor"
SAMPLING_RATES = range(4_000, 384_001)
SWITCHES = ("do_normalize", "return_attention_mask")


def load_feature_extractor(model_name_or_path: str, revision: str | None = None) -> Any:
    """The Wav2Vec2FeatureExtractor of a local folder or a hub id. No class is looked up by a name in its file.

    Raises:
        CheckpointError: It cannot be found, reached or understood.
    """
    folder = model_folder(model_name_or_path, revision, "config", "extractor")
    settings, kind = _read(model_name_or_path, folder), import_transformers().Wav2Vec2FeatureExtractor
    if fault := explain_shadow(settings, EXTRACTOR, kind):
        raise CheckpointError(f'model "{model_name_or_path}" {fault}')
    try:
        return kind.from_pretrained(folder, **FROM_A_FOLDER)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(cannot_load(model_name_or_path, EXTRACTOR, error)) from None


def load_sampling_rate(model_name_or_path: str, revision: str | None = None) -> int:
    """The sampling rate of a base model, Hz: all that preparing recordings asks of it, without importing transformers.

    That of a known model is known, and that of a file of fairseq or fairseq2, which all have one: no hub is asked, and
    `train` sees whether it is so.

    Raises:
        CheckpointError: As `load_feature_extractor`.
    """
    is_known = full_name(model_name_or_path) in KNOWN and not Path(model_name_or_path).is_dir()
    if is_known or is_foreign(model_name_or_path):
        return SAMPLING_RATE
    return int(_read(model_name_or_path, model_folder(model_name_or_path, revision, "extractor"))["sampling_rate"])


def _read(model_name_or_path: str, folder: Path) -> dict[str, Any]:
    """The settings of a folder's feature extractor, of which nothing is absurd."""
    try:
        settings = find_extractor(folder)
    except OSError as error:
        raise CheckpointError(cannot_load(model_name_or_path, EXTRACTOR, error)) from None
    if settings is None:
        raise CheckpointError(f'model "{model_name_or_path}" has no {EXTRACTOR}; copy that of the model it came from')
    fault = settings if isinstance(settings, str) else _find_fault(settings)
    if isinstance(settings, str) or fault:
        raise CheckpointError(f'model "{model_name_or_path}" {fault}')
    return {"sampling_rate": SAMPLING_RATE, **settings}


def _find_fault(settings: Mapping[str, Any]) -> str | None:
    kind = settings.get("feature_extractor_type") or USUAL
    if kind != USUAL:
        return (
            f"has the feature extractor {shortly(kind)}; this toolkit adapts wav2vec 2.0 models, which take raw audio, "
            f"by a {USUAL}"
        )
    rate = settings.get("sampling_rate", SAMPLING_RATE)
    if type(rate) is not int or rate not in SAMPLING_RATES:
        return f"has an {EXTRACTOR} that gives sampling_rate {shortly(rate)}, expected Hz: mend it"
    if (channels := settings.get("feature_size", 1)) != 1 or type(channels) is not int:
        return f"has an {EXTRACTOR} that gives feature_size {shortly(channels)}, where raw audio has 1: mend it"
    padding = settings.get("padding_value", 0.0)
    if type(padding) not in (int, float) or not math.isfinite(padding):
        return f"has an {EXTRACTOR} that gives padding_value {shortly(padding)}, expected a number: mend it"
    name = next((name for name in SWITCHES if not isinstance(settings.get(name, True), bool)), None)
    return name and f"has an {EXTRACTOR} that gives {name} {shortly(settings[name])}, expected true or false: mend it"
