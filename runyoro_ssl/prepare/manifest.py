"""The manifest, JSON Lines, one clip a line: read, with every line checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from runyoro_ssl.disk.text import read_text
from runyoro_ssl.errors import ManifestError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.prepare.names import Finder, is_plain, nfc
from runyoro_ssl.redaction import redact

log = get_logger()

MAX_SECONDS = 1e6
"""Eleven days: more is a mistake."""
MAX_CHARACTERS = 4096
"""Of a path or a name: more is a mistake, and would stand in every report."""


def as_name(value: Any) -> Any:
    """A name, of a speaker for example, in normal form C; a whole number is one, too: 7 and 7.0 are "7".

    Nothing is none. What is neither text nor number is left for the schema to refuse.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(int(value) if float(value).is_integer() else value)
    return (nfc(value).strip() or None) if isinstance(value, str) else value


Name = Annotated[Annotated[str, Field(max_length=MAX_CHARACTERS)] | None, BeforeValidator(as_name)]


def _no_switch(value: Any) -> Any:
    """A value that is neither true nor false, which would else be 1 and 0 seconds."""
    if isinstance(value, bool):
        raise ValueError("expected seconds")  # noqa: TRY004 - pydantic's own, for what is of no use
    return value


NumberOfSeconds = Annotated[float, BeforeValidator(_no_switch)]


class ManifestEntry(BaseModel):
    """One line of a manifest, without secrets. Other fields are kept in `model_extra` and carried into the dataset."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    audio_filepath: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    """Absolute, or relative to the manifest; as the file system has it, where it was found. `source` is for reports."""
    duration: NumberOfSeconds = Field(gt=0, le=MAX_SECONDS)
    """Seconds."""
    offset: NumberOfSeconds | None = Field(default=None, ge=0, le=MAX_SECONDS)
    """Seconds into the file; None: from its start."""
    recording: Name = None
    speaker: Name = None
    language: Name = None

    @property
    def source(self) -> str:
        """The file as datasets and reports name it: an address without its credentials."""
        return str(redact(self.audio_filepath))

    @property
    def recording_id(self) -> str:
        """The recording that splits keep together: the one that is named, or the file."""
        return self.recording or nfc(self.source)


def read_manifest(path: Path) -> list[ManifestEntry]:
    """Read a manifest and check every line. Paths that are spelled otherwise than their files are put right.

    Raises:
        ManifestError: A missing or empty file, or the first line that is wrong, with its number and the value seen.
    """
    try:
        text, _ = read_text(path)
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: no such manifest; write one with `invoke manifest --audio-dir DIR --output {path}`"
        ) from None
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}; give the path of a JSON Lines file") from None
    # Not splitlines(): JSON strings may hold U+2028 and its like, which are no line ends in JSON Lines.
    lines = text.split("\n")
    entries = [_read_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not entries:
        raise ManifestError(f"{path}: the manifest is empty; run `invoke manifest` on a folder that has recordings")
    return _found(path, entries)


def _found(path: Path, entries: list[ManifestEntry]) -> list[ManifestEntry]:
    """The entries, with the paths of the files they mean: of the other normal form, with backslashes, `~` and so on."""
    finder = Finder(path.parent)
    meant: dict[str, str] = {}
    for name in {entry.audio_filepath for entry in entries if not is_plain(entry.audio_filepath)}:
        found = finder.find(name)
        if found is not None and found != name:
            meant[name] = found
    if not meant:
        return entries
    written, read = min(meant.items())
    log.info("paths_read_otherwise", manifest=str(path), paths=len(meant), example=f"{written} -> {read}")
    return [
        entry.model_copy(update={"audio_filepath": meant.get(entry.audio_filepath, entry.audio_filepath)})
        for entry in entries
    ]


def _start_of(line: str) -> str:
    return str(redact(line[:1000]))[:60]


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
        raise ManifestError(f"{where}: not JSON ({str(error)[:100]}): {_start_of(line)!r}; {remedy}") from None
    if not isinstance(value, dict):
        raise ManifestError(
            f"{where}: expected an object with audio_filepath and duration, found {_start_of(line)!r}; {remedy}"
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
        name = ".".join(str(part) for part in first["loc"])[:60]
        if first["type"] == "missing":
            raise ManifestError(f'{where}: no "{name}"; {remedy}') from None
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ManifestError(f"{where}: {name} is {str(first['input'])[:60]!r}, {message}; {remedy}") from None
