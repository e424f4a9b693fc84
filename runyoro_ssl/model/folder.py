"""What is wrong with a local model folder, in order, before anything of it is loaded. Nothing here imports torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runyoro_ssl.errors import CheckpointError
from runyoro_ssl.foreign.shape import EXTRACTOR_SETTINGS
from runyoro_ssl.foreign.signs import describe_adapter, describe_toolkit
from runyoro_ssl.model.bounds import find_absurd
from runyoro_ssl.model.source import CONFIG, EXTRACTOR
from runyoro_ssl.model.weight_files import PREFERENCE, describe_mistaken, find_weights_fault, is_listed
from runyoro_ssl.redaction import shortly

PROCESSOR = "processor_config.json"
"""Where transformers 5 may write the feature extractor's settings instead."""
NAMES_SHOWN = 4
MOST_SETTINGS_BYTES = 16 << 20
"""Of a file of settings; those of models have some thousand."""
SEE_TO_IT = "give yourself the right to read it, or see to the disk that it is on"


def check_folder(model_name_or_path: str, *, weights: bool = False) -> None:
    """Refuse a local path that is no model folder, or one that is not whole; a hub id passes.

    Args:
        model_name_or_path: As the user gave it.
        weights: Look at the files of weights, too: which there are, and whether each is as long as it says.

    Raises:
        CheckpointError: The first fault found: the file, the value, what to do.
    """
    path = Path(model_name_or_path)
    try:
        if path.is_file():
            raise CheckpointError(f'model "{model_name_or_path}" {_describe_file(path)}')
        if path.is_dir() and (fault := _find_fault(path, weights=weights)):
            raise CheckpointError(f'model folder "{model_name_or_path}" {fault}')
    except OSError as error:
        raise CheckpointError(f'model "{model_name_or_path}" cannot be read: {error}; {SEE_TO_IT}') from None


def check_settings(model_name: str, folder: Path) -> dict[str, Any]:
    """Read the config.json of a model, of the hub or of a folder, and refuse it before anything is built by it.

    Raises:
        CheckpointError: It is no object of settings, of another type of model, asks for code, or has absurd numbers.
    """
    config = _read_object(folder / CONFIG)
    fault = config if isinstance(config, str) else _find_config_fault(config)
    if isinstance(config, str) or fault:
        raise CheckpointError(f'model "{model_name}" {fault}')
    return config


def find_extractor(folder: Path) -> dict[str, Any] | str | None:
    """The settings of a folder's feature extractor, where transformers 5 looks for them; None: there are none.

    Where something is wrong with their file, what, in words. Raises OSError.
    """
    processor = _read_object(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    if isinstance(processor, str):
        return processor
    nested = processor.get("feature_extractor", processor.get("audio_processor"))
    if nested is None and not is_listed(folder / EXTRACTOR):
        return None
    if not isinstance(nested, dict | None):
        return f"has a {PROCESSOR} whose feature extractor is {shortly(nested)}, no object of settings: mend it"
    settings = _read_object(folder / EXTRACTOR) if nested is None else nested
    file = EXTRACTOR if nested is None else PROCESSOR
    return settings if isinstance(settings, str) else explain_code(settings, file) or settings


def _describe_file(path: Path) -> str:
    """What a file is that was given in place of a folder."""
    if toolkit := describe_toolkit(path):
        return toolkit
    folder = path.absolute().parent
    if (folder / CONFIG).is_file():
        return f"is a file; give its folder: {folder}"
    return f"is a file; give a folder with {CONFIG} and weights, as transformers saves it (unpack an archive first)"


def _find_fault(folder: Path, *, weights: bool) -> str | None:
    if not (folder / CONFIG).is_file():
        return _describe_without_config(folder)
    config = _read_object(folder / CONFIG)
    if isinstance(config, str):
        return config
    if fault := _find_config_fault(config) or _find_extractor_fault(folder, config):
        return fault
    return find_weights_fault(folder) if weights else None


def _describe_without_config(folder: Path) -> str:
    """What a folder without config.json is, or where the model in it stands."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not names:
        return f"is empty; give a folder with {CONFIG} and weights, as transformers saves it"
    mistaken = (fault for name in (CONFIG, *PREFERENCE) if (fault := describe_mistaken(folder / name)))
    if fault := next(mistaken, None) or describe_adapter(folder) or describe_toolkit(folder):
        return fault
    inside = [path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{CONFIG}")]
    if inside:
        return f"has no {CONFIG} of its own; a model is in a folder inside: give {max(inside, key=_how_late)}"
    shown = ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
    return f"has no {CONFIG}, which says what the weights are: give a folder that transformers saved (here: {shown})"


def _how_late(folder: Path) -> tuple[int, float]:
    """Of the models of a run: its own checkpoints by step, before what it has set aside; of others, by time."""
    prefix, _, step = folder.name.rpartition("-")
    return int(step) if prefix == "checkpoint" and step.isascii() and step.isdigit() else -1, folder.stat().st_mtime


def _read_object(path: Path) -> dict[str, Any] | str:
    """The object in a JSON file; or, in words, what is wrong with the file."""
    if fault := describe_mistaken(path):
        return fault
    if (num_bytes := path.stat().st_size) > MOST_SETTINGS_BYTES:
        return f"has a {path.name} of {num_bytes:,} bytes, which is no file of settings: download it anew"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return f"has a {path.name} that is not in UTF-8: save it so, or download it anew"
    except (ValueError, RecursionError) as error:
        return f"has a {path.name} that is no JSON ({_why_no_json(error)}): mend it, or download it anew"
    if not isinstance(value, dict):
        return f"has a {path.name} that holds {type(value).__name__}, not an object of settings: download it anew"
    return value


def _why_no_json(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else "a number of thousands of digits"


def _find_config_fault(config: Mapping[str, Any]) -> str | None:
    kind = config.get("model_type")
    if not isinstance(kind, str):
        return f'names no model_type in {CONFIG} (seen: {kind!r}); a wav2vec 2.0 model has "model_type": "wav2vec2"'
    return explain_type(kind) or explain_code(config, CONFIG) or find_absurd(config)


def explain_type(kind: str) -> str | None:
    """Say why a model of this type cannot be trained here; None for wav2vec 2.0."""
    if kind == "wav2vec2":
        return None
    return (
        f'is of type "{kind}" ({CONFIG}); continued pre-training here needs a wav2vec 2.0 model, such as '
        "facebook/wav2vec2-xls-r-300m or facebook/mms-300m"
    )


def explain_code(settings: Mapping[str, Any], file: str) -> str | None:
    """Say that a file of settings asks for code that came with the model; None if it does not."""
    if not settings.get("auto_map"):
        return None
    return f"brings code of its own (auto_map in {file}), which is never run here; if it needs none, remove that entry"


def explain_shadow(settings: Mapping[str, Any], file: str, kind: type) -> str | None:
    """Say that a setting has the name of something that a class of transformers does, and would stand in its place."""
    shadow = next((name for name in settings if name.startswith("__") or callable(getattr(kind, name, None))), None)
    return shadow and f"has {shadow} in its {file}, which is no setting of a {kind.__name__}: remove it"


def _find_extractor_fault(folder: Path, config: Mapping[str, Any]) -> str | None:
    settings = find_extractor(folder)
    if settings is None:
        return _explain_missing_extractor(folder, config)
    return settings if isinstance(settings, str) else None


def _explain_missing_extractor(folder: Path, config: Mapping[str, Any]) -> str:
    if (above := folder.absolute().parent / EXTRACTOR).is_file():
        return f"has no {EXTRACTOR}; the folder above has one: copy {above} into it, if it is of the same model"
    layers = config.get("feat_extract_norm") == "layer"
    base = "facebook/wav2vec2-xls-r-300m" if layers else "facebook/wav2vec2-base"
    content = json.dumps({**EXTRACTOR_SETTINGS, "return_attention_mask": layers})
    return (
        f"has no {EXTRACTOR}: copy that of the model it was trained from, e.g. with "
        f"`hf download {base} {EXTRACTOR} --local-dir {shlex.quote(str(folder))}`; that file holds {content}"
    )
