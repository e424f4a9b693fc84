"""A command line and a table where there is neither invoke nor rich. The standard library only."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from runyoro_ssl.option import Option


def parse(program: str, description: str | None, options: Sequence[Option]) -> dict[str, Any]:
    """What was given on the command line, by name; ends the process with status 2 for what is no option."""
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False)
    for option in options:
        if option.kind == "switch":
            parser.add_argument(option.flag, action="store_true", help=_escaped(option.explained))
        else:
            parser.add_argument(
                option.flag, help=_escaped(option.explained), metavar=_escaped(option.usage.partition("=")[2])
            )
    return {name: value for name, value in vars(parser.parse_args()).items() if value is not None}


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    table = [columns, *rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(columns))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())  # noqa: T201


def _escaped(text: str) -> str:
    """As argparse takes it: a % is the beginning of a format."""
    return text.replace("%", "%%")
