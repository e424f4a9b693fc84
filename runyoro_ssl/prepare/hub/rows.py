"""A row: which column is its audio, the bytes of it, and what else the manifest takes from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runyoro_ssl.errors import ManifestError, did_you_mean
from runyoro_ssl.prepare.hub.address import HubAddress
from runyoro_ssl.redaction import redact

README = "README.md"
FIELDS = {
    "speaker": ("speaker", "speaker_id", "client_id"),
    "language": ("language", "locale", "lang"),
    "recording": ("recording", "recording_id"),
    "text": ("text", "transcription", "sentence"),
    "licence": ("licence", "license"),
}
"""Manifest field, and the columns that are known to hold it."""
_SUFFIX = re.compile(r"\.\w{1,8}", re.ASCII)


def column_kinds(features: Mapping[str, Any] | None, first_row: Callable[[], Mapping[str, Any]]) -> dict[str, bool]:
    """Whether each column holds audio: by its features, or, where the files state none, by the first row."""
    if features is not None:
        return {name: _is_audio(kind) for name, kind in features.items()}
    return {name: isinstance(value, dict) and {"bytes", "path"} <= value.keys() for name, value in first_row().items()}


def _is_audio(kind: Any) -> bool:
    """Whether a feature is audio, or looks like it: bytes and a path, as others than `datasets` write it."""
    from datasets import Audio, Value

    if isinstance(kind, Audio):
        return True
    if not isinstance(kind, Mapping) or {"bytes", "path"} - kind.keys():
        return False
    return isinstance(kind["bytes"], Value) and kind["bytes"].dtype in ("binary", "large_binary")


def choose_column(address: HubAddress, kinds: Mapping[str, bool]) -> str:
    """The column that is named; else the only one with audio; else the one that is called `audio`.

    Raises:
        ManifestError: None is, or several are and none is named.
    """
    audio = [name for name, is_audio in kinds.items() if is_audio]
    if not audio:
        raise ManifestError(f"{address}: no audio column; its columns are {', '.join(kinds)}")
    if address.column and address.column not in audio:
        problem = f'column "{address.column}" is not there or holds no audio{did_you_mean(address.column, audio)}'
        raise ManifestError(f"{address}: {problem}; audio is in {', '.join(audio)}")
    if not address.column and len(audio) > 1 and "audio" not in audio:
        raise ManifestError(f"{address}: several columns hold audio; name one by column=: {', '.join(audio)}")
    return address.column or (audio[0] if len(audio) == 1 else "audio")


def suffix_of(audio: Mapping[str, Any]) -> str:
    """The ending of the name that the audio has on the hub, if it looks like one."""
    name = str(audio.get("path") or "").partition("::")[0]  # zip://name.wav::hf://…
    return found if _SUFFIX.fullmatch(found := Path(name).suffix) else ""


def bytes_of(audio: Mapping[str, Any], address: HubAddress, home: Path) -> bytes:
    """The encoded audio of a row; nothing, if it has none, or names a file that is not of its dataset, at `home`.

    Raises:
        OSError and others: The file cannot be read, or fetched.
    """
    from datasets.utils.file_utils import xopen

    if audio.get("bytes") is not None:
        return bytes(audio["bytes"])
    path = str(audio.get("path") or "")
    if not path or not _is_of_dataset(path.rsplit("::", maxsplit=1)[-1], address, home):
        return b""
    with xopen(path, "rb") as file:
        return bytes(file.read())


def _is_of_dataset(place: str, address: HubAddress, home: Path) -> bool:
    """Whether a file, or an archive, came with the dataset: others of this machine are none of its business."""
    from datasets import config
    from huggingface_hub import constants

    if place.startswith(f"hf://datasets/{address.name}@"):
        return True
    homes = (home, config.HF_DATASETS_CACHE, config.HF_CACHE_HOME, constants.HF_HUB_CACHE)
    path = Path(place)
    return path.is_file() and any(path.resolve().is_relative_to(Path(one).resolve()) for one in homes)


def fields_of(row: Mapping[str, Any], licence: str | None) -> dict[str, str]:
    """What the manifest knows of a row, without secrets; `licence` is that of the dataset."""
    found = {field: next(filter(_is_told, map(row.get, names)), None) for field, names in FIELDS.items()}
    found["licence"] = found["licence"] if found["licence"] is not None else licence
    return {field: str(redact(str(value))) for field, value in found.items() if value is not None}


def _is_told(value: Any) -> bool:
    """Whether it is text or a number: a column of audio may be called `recording`."""
    return isinstance(value, str | int | float) and value != ""


def licence_of_card(address: HubAddress, commit: str | None) -> str | None:
    """The licence that the dataset's card states: `datasets` does not read it. The hub's own branches have no card."""
    from huggingface_hub import DatasetCard, hf_hub_download
    from yaml import YAMLError

    try:
        if address.is_local:
            path = str(Path(address.name) / README)
        else:
            revision = None if (address.revision or "").startswith("refs/") else commit
            path = hf_hub_download(
                address.name, README, repo_type="dataset", revision=revision, local_files_only=commit is None
            )
        card = DatasetCard.load(path, ignore_metadata_errors=True).data
    except (OSError, ValueError, YAMLError):  # it has none, or none that can be read
        return None
    licences = card.license if isinstance(card.license, list) else [card.license]
    named = [card.get("license_name") or one if one == "other" else one for one in licences if one]
    return ", ".join(map(str, named)) or None
