"""The manifest, JSON Lines, one clip a line: read, with every line checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runyoro_ssl.errors import ManifestError
from runyoro_ssl.redaction import redact

MAX_SECONDS = 1e6
"""Eleven days: more is a mistake."""


class ManifestEntry(BaseModel):
    """One line of a manifest, without secrets. Other fields are kept in `model_extra` and carried into the dataset."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    audio_filepath: str
    """Absolute, or relative to the manifest. As it was written: `source` is for reports."""
    duration: float = Field(gt=0, le=MAX_SECONDS)
    """Seconds."""
    offset: float | None = Field(default=None, ge=0, le=MAX_SECONDS)
    """Seconds into the file; None: from its start."""
    recording: str | None = None
    speaker: str | None = None
    language: str | None = None

    @property
    def source(self) -> str:
        """The file as datasets and reports name it: an address without its credentials."""
        return str(redact(self.audio_filepath))

    @property
    def recording_id(self) -> str:
        """The recording that splits keep together: the one that is named, or the file."""
        return self.recording or self.source


def read_manifest(path: Path) -> list[ManifestEntry]:
    """Read a manifest and check every line.

    Raises:
        ManifestError: A missing or empty file, or the first line that is wrong, with its number and the value seen.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: no such manifest; write one with `invoke manifest --audio-dir DIR --output {path}`"
        ) from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}; give the path of a JSON Lines file") from None
    # Not splitlines(): JSON strings may hold U+2028 and its like, which are no line ends in JSON Lines.
    lines = text.split("\n")
    entries = [_read_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not entries:
        raise ManifestError(f"{path}: the manifest is empty; run `invoke manifest` on a folder that has recordings")
    return entries


def _without_secrets(value: Any) -> Any:
    """All but the name of the file, which is opened by it."""
    if not isinstance(value, dict):
        return value
    return redact(value) | {name: part for name, part in value.items() if name == "audio_filepath"}


def _read_line(path: Path, number: int, line: str) -> ManifestEntry:
    where = f"{path} line {number}"
    remedy = "mend the line, or run `invoke manifest` again"
    try:
        value = _without_secrets(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error}): {redact(line)[:60]!r}; {remedy}") from None
    if not isinstance(value, dict):
        raise ManifestError(
            f"{where}: expected an object with audio_filepath and duration, found {redact(line)[:60]!r}; {remedy}"
        )
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ManifestError(
            f"{where}: holds half a character (a lone surrogate, \\ud800 to \\udfff); {remedy}"
        ) from None
    try:
        return ManifestEntry.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ManifestError(f'{where}: no "{name}"; {remedy}') from None
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ManifestError(f"{where}: {name} is {str(first['input'])[:60]!r}, {message}; {remedy}") from None
