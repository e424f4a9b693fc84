"""Tables as people have them: tabs, commas, semicolons, bars or blanks between cells, quoted or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runyoro_ssl.disk.text import read_text
from runyoro_ssl.errors import ConfigError, ManifestError, did_you_mean
from runyoro_ssl.logs import get_logger
from runyoro_ssl.prepare.names import nfc
from runyoro_ssl.prepare.sniff import is_sound, pointer, read_head, what_else

log = get_logger()

BLANKS = " "
DELIMITERS = ("\t", ",", ";", "|", BLANKS)
QUOTED = frozenset(",;")
"""Delimiters of tables that are quoted as a rule; in the others a quotation mark mostly is one."""
SAMPLE_LINES = 100
MAX_CELL = 1 << 30
"""Characters."""
MAX_SHOWN = 40
"""Columns, and characters of a name, in a message."""


@dataclass(frozen=True)
class Row:
    """A row: where it stands, in words, and its cells."""

    where: str
    cells: Sequence[str]

    def cell(self, index: int | None) -> str:
        """A cell, in normal form C; "" for a column that there is not."""
        return nfc(self.cells[index]).strip() if index is not None and index < len(self.cells) else ""


@dataclass(frozen=True)
class Table:
    """A table. `columns` are the names in its header; numbers from 1 if it has none."""

    path: Path
    columns: Sequence[str]
    rows: Sequence[Row]

    def index(self, column: str) -> int:
        """The place of a column.

        Raises:
            ConfigError: There is none of that name; or number, where there is no header.
        """
        if column in self.columns:
            return self.columns.index(column)
        raise ConfigError(
            f'{self.path} has no column "{column}"{did_you_mean(column, self.columns)}; there are: {self.shown_columns}'
        )

    @property
    def shown_columns(self) -> str:
        """The columns, as messages name them."""
        names = [name[:MAX_SHOWN] for name in self.columns[:MAX_SHOWN]]
        return ", ".join(names) + (" ..." if len(self.columns) > MAX_SHOWN else "")


def read_table(path: Path, wanted: Iterable[str]) -> Table:
    """Read a table of which certain columns are wanted, by name; or by number from 1, if it has no header.

    Raises:
        ConfigError: No such file, or not a table.
        ManifestError: Text that cannot be read, or no row.
    """
    text = _text_of(path)
    names = [nfc(name) for name in wanted]
    numbers = [int(name) for name in names if name.isdecimal()]
    lines = [line for line in text.split("\n", SAMPLE_LINES)[:SAMPLE_LINES] if line.strip()]
    if not lines:
        raise ManifestError(f"{path}: the table is empty; give another --table")
    delimiter = _delimiter(lines, names, numbers)
    rows = _parse(text, delimiter, numbers)
    header = [nfc(cell).strip() for cell in rows[0].cells]
    if numbers and len(numbers) == len(names) and not set(names) <= set(header):
        width = max(len(row.cells) for row in rows)
        header = [str(number) for number in range(1, width + 1)]
    else:
        rows = rows[1:]
    if not rows:
        raise ManifestError(f"{path}: the table has a header and no row; give another --table")
    return Table(path, header, rows)


def _text_of(path: Path) -> str:
    if not path.exists():
        raise ConfigError(f"{path}: no such table; give the path of a CSV or TSV file as --table")
    if path.is_dir():
        raise ConfigError(
            f"{path} is a folder, and no data folder of Kaldi (it has no wav.scp); give a file as --table"
        )
    head = read_head(path)
    other = pointer(head) or what_else(head) or ("a recording" if is_sound(head) else None)
    if other not in {None, "text"}:
        raise ConfigError(f"{path} is {other}, no table; give a table, saved as CSV (UTF-8), as --table")
    try:
        text, encoding = read_text(path, or_windows=True)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give a CSV or TSV file as --table") from None
    if encoding == "cp1252":
        log.warning("table_is_not_utf8", path=str(path), read_as="Windows-1252", remedy="save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _delimiter(lines: Sequence[str], names: Sequence[str], numbers: Sequence[int]) -> str:
    """The delimiter under which the wanted columns are there, and most lines have as many cells as the first."""

    def score(delimiter: str) -> tuple[int, bool, float, bool, int]:
        rows = [_cells(line, delimiter, numbers) for line in lines]
        widths = [len(cells) for cells in rows]
        there = len({nfc(cell).strip() for cell in rows[0]} & set(names)) + sum(one <= widths[0] for one in numbers)
        is_prose = delimiter in QUOTED and any(cell.startswith(" ") for cells in rows for cell in cells)
        return there, widths[0] > 1, widths.count(widths[0]) / len(widths), not is_prose, widths[0]

    # Where a bar ends every line, they are commands of Kaldi.
    choices = [one for one in DELIMITERS if one != "|" or not all(line.rstrip().endswith("|") for line in lines)]
    return max(choices, key=score)


def _cells(line: str, delimiter: str, numbers: Sequence[int]) -> list[str]:
    """The cells of a line on its own. What follows the last wanted one after blanks belongs to that."""
    if delimiter == BLANKS:
        return line.split(None, max(numbers) - 1 if numbers else -1)
    if delimiter in QUOTED:
        with _any_length():
            return next(csv.reader([line], delimiter=delimiter), [])
    return line.split(delimiter)


def _parse(text: str, delimiter: str, numbers: Sequence[int]) -> list[Row]:
    lines = text.split("\n")
    if delimiter == BLANKS:
        return [Row(f"line {n}", _cells(line, BLANKS, numbers)) for n, line in enumerate(lines, 1) if line.strip()]
    literal = [
        Row(f"line {n}", [_unquoted(cell) for cell in line.split(delimiter)])
        for n, line in enumerate(lines, 1)
        if line.strip()
    ]
    if '"' not in text:
        return literal
    quoted = _quoted(text, delimiter)
    choices = [quoted, literal] if delimiter in QUOTED else [literal, quoted]
    return min(choices, key=_misfits)


def _quoted(text: str, delimiter: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[Row] = []
    line = 1
    with _any_length():
        for cells in reader:
            if any(cells):
                rows.append(Row(f"line {line}", cells))
            line = reader.line_num + 1
    return rows


@contextmanager
def _any_length() -> Iterator[None]:
    """Python's reader refuses cells of more than 131,072 characters, in all the process."""
    before = csv.field_size_limit(MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _misfits(rows: Sequence[Row]) -> int:
    """Rows that have not as many cells as the first."""
    return sum(len(row.cells) != len(rows[0].cells) for row in rows)


def _unquoted(cell: str) -> str:
    """A cell without the quotation marks around all of it."""
    cell = cell.strip()
    inner = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell
