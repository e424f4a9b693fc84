"""`invoke manifest`: walk a folder, join a table to it, decode every recording, write the manifest."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import write_jsonl
from runyoro_ssl.disk.ours import is_json_lines_of, refuse_foreign
from runyoro_ssl.errors import AudioError, ConfigError, ManifestError, did_you_mean
from runyoro_ssl.prepare.lines import FilePart, manifest_line
from runyoro_ssl.prepare.names import nfc, printable
from runyoro_ssl.prepare.probing import Found, probe_all, probe_drawn
from runyoro_ssl.prepare.sniff import AUDIO_EXTENSIONS
from runyoro_ssl.prepare.tables.join import Columns, join, open_table
from runyoro_ssl.prepare.walk import Rejection, Walk, walk

SPEAKERS = {
    "folder": r"^([^/]+)/",
    "parent": r"([^/]+)/[^/]+$",
    "name": r"([^/]+?)(?:[-_. ][^/]*)?\.[^./]+$",
}
"""Where in a path the speaker stands, by a word: the first folder, the last one, or the file's name up to its first
`-`, `_`, `.` or blank."""


@dataclass(frozen=True)
class Scan:
    """The result of `invoke manifest`.

    `flaws` are those of recordings used as far as they go, by file. `rejected` are recordings that are not in the
    manifest, rows of the table without one, and folders that were not entered; `others` are files that are no
    recordings; `skipped` counts the files in trash and bookkeeping, by the name of what holds them.
    """

    output: Path
    num_files: int
    num_lines: int
    seconds: float
    num_speakers: int
    num_without_speaker: int
    flaws: dict[str, str]
    rejected: list[Rejection]
    others: list[Rejection] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def rejected_path(self) -> Path:
        """The file that lists the rejected files, and the others."""
        return rejected_path(self.output)

    @property
    def rejected_by_reason(self) -> Counter[str]:
        """The number of rejected files for each reason."""
        return Counter(one.reason for one in self.rejected)

    @property
    def num_other(self) -> int:
        """The number of files that are no recordings."""
        return len(self.others)

    @property
    def others_by_extension(self) -> Counter[str]:
        """The number of files that are no recordings, by extension: "none" for those that have none."""
        return Counter(Path(one.path).suffix.lower() or "none" for one in self.others)


def scan(
    audio_dir: Path,
    output: Path,
    *,
    speaker_from: str | None = None,
    overwrite: bool = False,
    config: Config | None = None,
    table: Path | None = None,
    columns: Columns | None = None,
    licence: str | None = None,
) -> Scan:
    """Write a manifest of every readable recording under `audio_dir`, and beside it what was rejected and why.

    Args:
        audio_dir: Walked recursively; links to folders are not followed, trash and what is hidden is skipped.
        output: The manifest. All other files go to `<stem>.rejected.jsonl` beside it.
        speaker_from: One of `SPEAKERS`; or a regular expression searched in each path, relative to `audio_dir` with
            forward slashes; the group `speaker`, or the first group, is the speaker where the table names none.
        overwrite: Replace an existing manifest.
        config: Its number of workers, its limits on recordings, its hours; None: the defaults.
        table: A CSV or TSV file, or a data folder of Kaldi, that says what is wanted of `audio_dir`.
        columns: What of the table holds what.
        licence: That of all recordings for which the table has no other.

    Raises:
        ConfigError: A missing folder, a bad expression, an output that exists, a column that does not.
        ManifestError: Not one readable recording, or a table that fits no file.
    """
    pattern = _compile(speaker_from)
    if not audio_dir.is_dir():
        raise ConfigError(f"{audio_dir}: no such folder; give the folder of your recordings as --audio-dir")
    _check_output(output, overwrite=overwrite)
    if pattern is None and table is None:
        _check_speakers_are_kept(output)
    opened = open_table(table, columns or Columns()) if table else None
    output.parent.mkdir(parents=True, exist_ok=True)

    found = walk(audio_dir)
    _check_matches(pattern, found)
    rejected = list(found.refused)
    if opened:
        joined = join(*opened, found)
        parts = joined.parts
        rejected += joined.rejected
    else:
        parts = [FilePart(path, nfc(printable(found.relative(path)))) for path in found.files]
    parts = [_completed(part, _speaker(pattern, part.path, found), licence) for part in parts]
    lines: list[dict[str, Any]] = []
    for part, one in _look_into(parts, config or Config()):
        try:
            lines.append(_line(part, one, output.parent.resolve()))
        except AudioError as error:
            rejected.append(Rejection(printable(found.relative(part.path)), error.reason, error.detail))
    return _write(output, lines, rejected, found)


def _write(output: Path, lines: list[dict[str, Any]], rejected: list[Rejection], found: Walk) -> Scan:
    others = [one for one in rejected if one.reason == Reason.NOT_AUDIO]
    rejected = [one for one in rejected if one.reason != Reason.NOT_AUDIO]
    if not lines:
        raise ManifestError(_nothing_found(found, rejected, others))
    list_of_rejected = rejected_path(output)
    write_jsonl(
        list_of_rejected,
        ({"audio_filepath": path, "reason": reason, "detail": detail} for path, reason, detail in rejected + others),
    )
    try:
        write_jsonl(output, lines)
    except OSError:
        list_of_rejected.unlink()  # without a manifest it would only be in the way of the next try
        raise
    speakers = [line["speaker"] for line in lines if "speaker" in line]
    return Scan(
        output=output,
        num_files=len({line["audio_filepath"] for line in lines}),
        num_lines=len(lines),
        seconds=sum(line["duration"] for line in lines),
        num_speakers=len(set(speakers)),
        num_without_speaker=len({line["audio_filepath"] for line in lines if "speaker" not in line}),
        flaws={line["audio_filepath"]: line["flaw"] for line in lines if "flaw" in line},
        rejected=rejected,
        others=others,
        skipped=found.skipped,
    )


def _completed(part: FilePart, speaker: str | None, licence: str | None) -> FilePart:
    """A part with what its table does not say of it."""
    known = {"licence": licence} if licence and "licence" not in part.fields else {}
    return replace(part, speaker=part.speaker or speaker, fields=part.fields | known)


def _look_into(parts: Sequence[FilePart], config: Config) -> Iterator[tuple[FilePart, Found]]:
    """Every part, with what was found of its file, in their order."""
    if config.prepare.max_hours is None:
        of_file: dict[Path, list[FilePart]] = defaultdict(list)
        for part in parts:
            of_file[part.path].append(part)
        for path, one in probe_all(list(of_file), config):
            yield from ((part, one) for part in of_file[path])
        return
    probed, drawn = probe_drawn(parts, config)
    for part in parts:
        found = probed.get(part.path, AudioError(Reason.NOT_DRAWN))
        is_drawn = part.recording in drawn or isinstance(found, AudioError)
        yield part, found if is_drawn else AudioError(Reason.NOT_DRAWN)


def _line(part: FilePart, one: Found, home: Path) -> dict[str, Any]:
    if isinstance(one, AudioError):
        raise one
    return manifest_line(part, one, home)


def _check_output(output: Path, *, overwrite: bool) -> None:
    """Raise ConfigError if the manifest, or the list of what is rejected, would replace something unasked."""
    for path, what in ((output, "a manifest"), (rejected_path(output), "a list of what is in no manifest")):
        if path.is_dir() or (path.exists() and not overwrite):
            advice = (
                "give another --output" if path.is_dir() else "add --overwrite to replace it, or give another --output"
            )
            raise ConfigError(f"{path} exists; {advice}")
        refuse_foreign(path, is_json_lines_of("audio_filepath"), what, "--output")


def _check_speakers_are_kept(output: Path) -> None:
    """Raise ConfigError if a manifest that names speakers would be replaced by one that names none."""
    named: set[str] = set()
    with suppress(OSError, ValueError):  # what cannot be read knows no speaker
        lines = map(json.loads, output.read_text(encoding="utf-8").splitlines())
        named |= {str(line["speaker"]) for line in lines if isinstance(line, dict) and line.get("speaker")}
    if named:
        raise ConfigError(
            f"{output} names {len(named)} speakers, and this command none: add --speaker-from or --table, as when it "
            "was made; or give another --output"
        )


def _check_matches(pattern: re.Pattern[str] | None, found: Walk) -> None:
    """Raise ConfigError if a pattern finds a speaker in none of the paths."""
    named_so = [path for path in found.files if path.suffix.lower() in AUDIO_EXTENSIONS] or found.files
    if pattern is not None and named_so and not any(_speaker(pattern, path, found) for path in named_so):
        raise ConfigError(
            f'--speaker-from "{_as_given(pattern)}" matches none of {len(named_so)} paths, e.g. '
            f'"{printable(found.relative(named_so[0]))}"; it is searched in the path relative to --audio-dir'
        )


def _as_given(pattern: re.Pattern[str]) -> str:
    return next((word for word, meaning in SPEAKERS.items() if meaning == pattern.pattern), pattern.pattern)


def rejected_path(output: Path) -> Path:
    """The file that lists what was rejected for a manifest."""
    return output.with_name(f"{output.stem}.rejected.jsonl")


def _compile(speaker_from: str | None) -> re.Pattern[str] | None:
    if speaker_from is None:
        return None
    try:
        pattern = re.compile(SPEAKERS.get(speaker_from) or nfc(speaker_from))
    except re.error as error:
        raise ConfigError(f'--speaker-from "{speaker_from}" is not a regular expression: {error}') from None
    if pattern.groups == 0:
        raise ConfigError(
            f'--speaker-from "{speaker_from}" is none of {", ".join(SPEAKERS)}{did_you_mean(speaker_from, SPEAKERS)}, '
            'and as a regular expression it has no group; mark the speaker with parentheses: "([^/]+)/"'
        )
    return pattern


def _speaker(pattern: re.Pattern[str] | None, path: Path, found: Walk) -> str | None:
    """The speaker a path tells: the group `speaker`, or the first; in normal form C."""
    match = pattern.search(nfc(found.relative(path))) if pattern else None
    if match is None:
        return None
    return (match["speaker"] if "speaker" in match.re.groupindex else match[1]) or None


def _nothing_found(found: Walk, rejected: Sequence[Rejection], others: Sequence[Rejection]) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(one.reason for one in rejected).most_common())
    skipped = f"; {found.skipped.total()} in trash and hidden folders, which are skipped" if found.skipped else ""
    return (
        f"{found.root}: no readable recording (rejected: {reasons or 'none'}; {len(others)} other files{skipped}); "
        "audio and video of nearly every format is read: is it the right folder?"
    )
