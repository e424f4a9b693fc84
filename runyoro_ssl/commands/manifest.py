"""`manifest`: a folder of recordings to a list of those that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl import logs
from runyoro_ssl.audio.reasons import count_flaws
from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.own import ManifestOptions
from runyoro_ssl.config import PrepareConfig
from runyoro_ssl.errors import ConfigError

if TYPE_CHECKING:
    from runyoro_ssl.prepare.scan import Scan
    from runyoro_ssl.prepare.tables.join import Columns

MAX_ROWS = 12
"""Extensions of other files that are counted on their own."""
MAX_NAMED = 3
"""Files that are named of those that were rejected for a reason."""


def manifest(**given: Any) -> Scan:
    """List the readable recordings of a folder, with their real durations.

    Args:
        **given: The options of the task, by name (`runyoro-ssl manifest --help`), and any setting of `prepare` and
            `hardware`; `set`.

    Returns:
        What was found, and where it is listed.

    Raises:
        RunyoroError: Something that you can mend.
    """
    from runyoro_ssl.prepare.scan import scan

    options = own_options(ManifestOptions, given)
    config = resolve("manifest", given)
    return scan(
        options.audio_dir,
        options.output,
        speaker_from=options.speaker_from,
        overwrite=options.overwrite,
        config=config,
        table=options.table,
        columns=_columns(options),
        licence=options.licence,
    )


def _columns(options: ManifestOptions) -> Columns:
    """The columns that were given. Raises ConfigError if there is no table for them."""
    from runyoro_ssl.prepare.tables.join import Columns

    given = {one.name: getattr(options, f"{one.name}_column") for one in fields(Columns)}
    first = next((name for name, column in given.items() if column is not None), None)
    if first is not None and options.table is None:
        raise ConfigError(f"--{first}-column is {given[first]}, and there is no table; give its path as --table")
    return Columns(**given)


def show(found: Scan, given: Mapping[str, Any]) -> None:  # noqa: ARG001 - as every task's
    """Print what was found, where it is listed, and what comes next."""
    flaws = count_flaws(found.flaws.values())
    rows = [
        ["recordings", f"{found.num_files}"],
        *([["parts of them", f"{found.num_lines}"]] if found.num_lines != found.num_files else []),
        ["audio", f"{found.seconds / 3600:.2f} h"],
        ["speakers", f"{found.num_speakers} ({found.num_without_speaker} recordings without)"],
        *([f"used, with a flaw: {reason}", str(count)] for reason, count in flaws.most_common()),
        *([f"rejected: {reason}", _named(found, reason)] for reason, _ in found.rejected_by_reason.most_common()),
        *_other_rows(found),
    ]
    logs.print_table(f"{found.output}", ["what", "count"], rows)
    path = None if found.output == Path(PrepareConfig().manifest_path) else found.output
    close(
        [
            ("manifest", found.output),
            *([("files that are not in it, and why", found.rejected_path)] if found.rejected or found.others else []),
        ],
        [
            ("see what filters would drop", command("prepare", manifest_path=path, dry_run=True)),
            ("make the dataset", command("prepare", manifest_path=path)),
        ],
    )


def _named(found: Scan, reason: str) -> str:
    """How many files were rejected for a reason, and the names of a few."""
    names = [Path(one.path).name for one in found.rejected if one.reason == reason]
    return f"{len(names)}: {', '.join(names[:MAX_NAMED])}" + (", …" if len(names) > MAX_NAMED else "")


def _other_rows(found: Scan) -> list[list[str]]:
    """Files that are no recordings, in all and by extension; files that were skipped, and what holds them."""
    counted = found.others_by_extension.most_common()
    rows = [["other files", str(found.num_other)]]
    rows += [[f"  not audio: {extension}", str(count)] for extension, count in counted[:MAX_ROWS]]
    if rest := counted[MAX_ROWS:]:
        rows.append([f"  not audio: {len(rest)} other extensions", str(sum(count for _, count in rest))])
    if found.skipped:
        holders = ", ".join(name for name, _ in found.skipped.most_common(MAX_ROWS))
        more = ", ..." if len(found.skipped) > MAX_ROWS else ""
        rows.append(["skipped: trash and hidden", f"{found.skipped.total()} files: {holders}{more}"])
    return rows
