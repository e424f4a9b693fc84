"""A table joined to a folder: the parts of files that its rows name, and what is left over on either side."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError, ConfigError, ManifestError
from runyoro_ssl.prepare.lines import FilePart
from runyoro_ssl.prepare.names import nfc, printable
from runyoro_ssl.prepare.sniff import AUDIO_EXTENSIONS, read_head, what_else
from runyoro_ssl.prepare.tables.files import FileIndex
from runyoro_ssl.prepare.tables.kaldi import COLUMNS, is_kaldi, read_kaldi
from runyoro_ssl.prepare.tables.read import Row, Table, read_table
from runyoro_ssl.prepare.walk import Rejection, Walk

Key = tuple[Path, float | None, float | None]
"""A part of a file: where it begins and ends."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what: their names, or numbers from 1. `start` and `end` are in seconds."""

    path: str | None = None
    speaker: str | None = None
    text: str | None = None
    language: str | None = None
    recording: str | None = None
    licence: str | None = None
    start: str | None = None
    end: str | None = None

    @property
    def given(self) -> dict[str, str]:
        """What is named."""
        named = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: str(column) for name, column in named if column is not None}


@dataclass
class Joined:
    """What a table and a folder have in common, `parts`, and what only one of them has, or a row has wrong."""

    parts: list[FilePart] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


def open_table(path: Path, columns: Columns) -> tuple[Table, dict[str, int]]:
    """Read a table, or a data folder of Kaldi; and find the columns in it.

    Raises:
        ConfigError: No such table, no such column, or nothing says which has the path.
        ManifestError: A table that cannot be read.
    """
    given = columns.given
    if is_kaldi(path):
        table = read_kaldi(path)
        given = {name: name for name in COLUMNS} | given
    else:
        table = read_table(path, given.values())
    if "path" not in given:
        raise ConfigError(f"{path}: which column has the path? give --path-column; there are: {table.shown_columns}")
    return table, {name: table.index(nfc(column)) for name, column in given.items()}


def join(table: Table, places: Mapping[str, int], found: Walk) -> Joined:
    """Join a table to what was found in a folder. The files come in the order of the folder.

    Raises:
        ManifestError: No row names a file of the folder.
    """
    table_dir = table.path if table.path.is_dir() else table.path.parent
    index = FileIndex(found.root, found.files, table_dir)
    joined = Joined()
    taken: dict[Key, FilePart] = {}
    for row in table.rows:
        try:
            _take(_part(row, places, index, found), taken)
        except AudioError as error:
            cell = row.cell(places["path"])
            joined.rejected.append(Rejection(printable(cell), error.reason, error.detail))
    if not taken:
        raise ManifestError(_explain_nothing(table, places, index, found, joined))
    order = {path: number for number, path in enumerate(found.files)}
    joined.parts = sorted(taken.values(), key=lambda part: (order[part.path], part.start_sec or 0.0))
    joined.rejected += _without_row(found, {part.path for part in joined.parts})
    return joined


def _take(part: FilePart, taken: dict[Key, FilePart]) -> None:
    """Take a part. Raises AudioError if an earlier row has the same."""
    key = (part.path, part.start_sec, part.end_sec)
    if first := taken.get(key):
        words = f"{part.row}: {first.row} has the same, and was used"
        differs = "" if part.speaker == first.speaker else f': speaker "{first.speaker}", not "{part.speaker}"'
        raise AudioError(Reason.REPEATED_ROW, words + differs)
    taken[key] = part


def _part(row: Row, places: Mapping[str, int], index: FileIndex, found: Walk) -> FilePart:
    """The part of a file that a row names. Raises AudioError if it names none, or too many."""
    path = _file_of(row, places, index, found)
    start, end = (_seconds(row, places.get(name)) for name in ("start", "end"))
    if (start or 0.0) < 0 or (end is not None and end <= (start or 0.0)):
        raise AudioError(Reason.WRONG_ROW, f"{row.where}: it ends at {end:g} s, and starts at {start or 0:g} s")
    if end is not None:
        start = start or 0.0
    about = {name: row.cell(places.get(name)) for name in ("text", "language", "licence")}
    recording = row.cell(places.get("recording")) or nfc(printable(found.relative(path)))
    speaker = row.cell(places.get("speaker")) or None
    known = {name: value for name, value in about.items() if value}
    return FilePart(path, recording, speaker, known, start, end, row.where)


def _file_of(row: Row, places: Mapping[str, int], index: FileIndex, found: Walk) -> Path:
    cell = row.cell(places["path"])
    if cell.endswith("|"):
        cell = _file_of_command(row, cell)
    if not cell:
        raise AudioError(Reason.WRONG_ROW, f"{row.where}: no path in it")
    files = index.find(cell)
    if not files:
        raise AudioError(Reason.ROW_WITHOUT_FILE, row.where)
    if len(files) > 1:
        names = ", ".join(found.relative(path) for path in files[:3])
        raise AudioError(Reason.AMBIGUOUS_ROW, f"{row.where}: {len(files)} files are called so: {printable(names)}")
    return files[0]


def _file_of_command(row: Row, cell: str) -> str:
    """The one recording that a command of Kaldi (`sph2pipe -f wav x.sph |`) reads; commands are never run."""
    try:
        words = shlex.split(cell[:-1])
    except ValueError:
        words = []
    files = dict.fromkeys(word for word in words if Path(word).suffix.lower() in AUDIO_EXTENSIONS)
    if len(files) != 1:
        raise AudioError(Reason.WRONG_ROW, f"{row.where}: a command, which is not run: {cell[:60]}")
    return next(iter(files))


def _seconds(row: Row, index: int | None) -> float | None:
    """Seconds, or hours:minutes:seconds; None of an empty cell. Raises AudioError for anything else."""
    text = row.cell(index)
    if not text:
        return None
    try:
        parts = [float(part.replace(",", ".")) for part in text.split(":")]
    except ValueError:
        parts = [math.nan]
    seconds: float = sum(part * 60.0**power for power, part in enumerate(reversed(parts)))
    if not math.isfinite(seconds):
        raise AudioError(Reason.WRONG_ROW, f'{row.where}: "{text[:40]}" is no time; seconds, or h:m:s')
    return seconds


def _explain_nothing(table: Table, places: Mapping[str, int], index: FileIndex, found: Walk, joined: Joined) -> str:
    first = next((one for one in joined.rejected if one.reason != Reason.ROW_WITHOUT_FILE), None)
    if first is not None:
        words = f"{first.reason}: {first.detail}"
        return f"{table.path}: none of {len(table.rows)} rows can be used ({words}); check the columns that you gave"
    row, file = table.rows[0].cell(places["path"]), next(index.examples(), None)
    there = f'a recording is "{printable(file)}"' if file else f"there are {len(found.files)} files, no recording"
    return (
        f'{table.path}: none of {len(table.rows)} rows names a file below {found.root}: the first says "{row[:100]}", '
        f"{there}; check --path-column and --audio-dir"
    )


def _without_row(found: Walk, with_row: set[Path]) -> Iterator[Rejection]:
    """The files that no row names: recordings by their name, or what they are by their first bytes."""
    for path in found.files:
        if path not in with_row:
            named_so = path.suffix.lower() in AUDIO_EXTENSIONS
            other = None if named_so else what_else(read_head(path))
            reason = Reason.NOT_AUDIO if other else Reason.NO_ROW
            yield Rejection(printable(found.relative(path)), reason, other or "")
