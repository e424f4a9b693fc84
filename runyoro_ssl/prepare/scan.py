"""`invoke manifest`: walk a folder, decode every recording, write the manifest."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyoro_ssl.errors import AudioError, ConfigError, ManifestError
from runyoro_ssl.logs import progress
from runyoro_ssl.prepare.audio import AudioInfo, probe
from runyoro_ssl.prepare.manifest import write_jsonl
from runyoro_ssl.prepare.workers import decoding_pool, run_ordered

READ_EXTENSIONS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff"})
KNOWN_EXTENSIONS = frozenset({".m4a", ".mp4", ".aac", ".3gp", ".amr", ".wma", ".webm", ".mka", ".mkv", ".spx", ".ac3"})
"""Audio this version does not decode: listed as rejected, so that nobody believes it was used."""


@dataclass(frozen=True)
class Scan:
    """What `invoke manifest` found. `rejected` holds (path, reason, detail); `num_other` files are not audio."""

    output: Path
    num_files: int
    seconds: float
    num_speakers: int
    num_without_speaker: int
    rejected: list[tuple[str, str, str]]
    num_other: int

    @property
    def rejected_path(self) -> Path:
        """Where the rejected files are listed."""
        return rejected_path(self.output)

    @property
    def rejected_by_reason(self) -> Counter[str]:
        """Files by reason."""
        return Counter(reason for _, reason, _ in self.rejected)


def scan(
    audio_dir: Path, output: Path, *, speaker_from: str | None = None, num_workers: int = 1, overwrite: bool = False
) -> Scan:
    """Write a manifest of every readable recording under `audio_dir`, and beside it what was rejected and why.

    Args:
        audio_dir: Walked recursively; links to folders are not followed.
        output: The manifest. Rejected files go to `<stem>.rejected.jsonl` beside it.
        speaker_from: A regular expression searched in each path, relative to `audio_dir` with forward slashes; the
            group `speaker`, or the first group, is the speaker.
        num_workers: Processes that decode.
        overwrite: Replace an existing manifest.

    Raises:
        ConfigError: A missing folder, a bad expression, an output that exists.
        ManifestError: Not one readable recording.
    """
    pattern = _compile(speaker_from)
    if not audio_dir.is_dir():
        raise ConfigError(f"{audio_dir}: no such folder; give the folder of your recordings as --audio-dir")
    for path in (output, rejected_path(output)):
        if path.is_dir() or (path.exists() and not overwrite):
            advice = (
                "give another --output" if path.is_dir() else "add --overwrite to replace it, or give another --output"
            )
            raise ConfigError(f"{path} exists; {advice}")
    output.parent.mkdir(parents=True, exist_ok=True)

    files, unreached, others = _walk(audio_dir)
    if pattern is not None and files and not any(_speaker(pattern, path, audio_dir) for path in files):
        example = files[0].relative_to(audio_dir)
        raise ConfigError(
            f'--speaker-from "{speaker_from}" matches none of {len(files)} paths, e.g. "{example}"; '
            "it is searched in the path relative to --audio-dir"
        )
    rows: list[dict[str, Any]] = []
    rejected: list[tuple[str, str, str]] = list(unreached)
    with decoding_pool(num_workers) as pool:
        for path, found in _probe_all(pool, files):
            relative = path.relative_to(audio_dir).as_posix()
            if isinstance(found, AudioError):
                rejected.append((_printable(relative), found.reason, found.detail))
            else:
                rows.append(_row(path, relative, found, output, _speaker(pattern, path, audio_dir)))
    if not rows:
        raise ManifestError(_nothing_found(audio_dir, rejected, others))
    speakers = [row["speaker"] for row in rows if "speaker" in row]
    write_jsonl(
        rejected_path(output),
        ({"audio_filepath": path, "reason": reason, "detail": detail} for path, reason, detail in rejected),
    )
    write_jsonl(output, rows)
    return Scan(
        output=output,
        num_files=len(rows),
        seconds=sum(row["duration"] for row in rows),
        num_speakers=len(set(speakers)),
        num_without_speaker=len(rows) - len(speakers),
        rejected=rejected,
        num_other=others,
    )


def rejected_path(output: Path) -> Path:
    """Where the rejected files of a manifest are listed."""
    return output.with_name(f"{output.stem}.rejected.jsonl")


def _compile(speaker_from: str | None) -> re.Pattern[str] | None:
    if speaker_from is None:
        return None
    try:
        pattern = re.compile(speaker_from)
    except re.error as error:
        raise ConfigError(f'--speaker-from "{speaker_from}" is not a regular expression: {error}') from None
    if pattern.groups == 0:
        raise ConfigError(
            f'--speaker-from "{speaker_from}" has no group; mark the speaker with parentheses: "([^/]+)/"'
        )
    return pattern


def _walk(audio_dir: Path) -> tuple[list[Path], list[tuple[str, str, str]], int]:
    """Audio files in a stable order, folders that were not entered with the reason, and the number of other files."""
    files: list[Path] = []
    unreached: list[tuple[str, str, str]] = []
    others = 0

    def refused(error: OSError) -> None:
        unreached.append(
            (_printable(os.path.relpath(error.filename, audio_dir)), "unreadable folder", str(error.strerror))
        )

    for folder, subfolders, names in os.walk(audio_dir, onerror=refused):
        subfolders.sort()
        for name in subfolders:
            link = Path(folder, name)
            if link.is_symlink():
                unreached.append(
                    (_printable(os.path.relpath(link, audio_dir)), "linked folder", "links are not followed")
                )
        for name in sorted(names):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in READ_EXTENSIONS | KNOWN_EXTENSIONS:
                files.append(Path(folder, name))
            else:
                others += 1
    return files, unreached, others


def _printable(path: str) -> str:
    """A path that can be written as UTF-8, whatever the file system calls it."""
    return path.encode("utf-8", "backslashreplace").decode()


def _speaker(pattern: re.Pattern[str] | None, path: Path, audio_dir: Path) -> str | None:
    """The speaker a path tells: the group `speaker`, or the first."""
    match = pattern.search(path.relative_to(audio_dir).as_posix()) if pattern else None
    if match is None:
        return None
    return (match["speaker"] if "speaker" in match.re.groupindex else match[1]) or None


def _probe_all(pool: Executor, files: list[Path]) -> Iterator[tuple[Path, AudioInfo | AudioError]]:
    with progress("files") as bar:
        task = bar.add_task("Reading recordings", total=len(files))
        for path, found in zip(files, run_ordered(pool, _probe, files), strict=True):
            bar.advance(task)
            yield path, found


def _probe(path: Path) -> AudioInfo | AudioError:
    """Runs in a worker."""
    if path.suffix.lower() in KNOWN_EXTENSIONS:
        return AudioError("unsupported format", f"{path.suffix.lower()} files: convert to WAV, FLAC, MP3, OGG or OPUS")
    try:
        str(path).encode()
        return probe(path)
    except UnicodeEncodeError:
        return AudioError("file name is not UTF-8", "rename the file")
    except AudioError as error:
        return error


def _row(path: Path, relative: str, info: AudioInfo, output: Path, speaker: str | None) -> dict[str, Any]:
    home = output.parent.resolve()
    resolved = path.resolve()
    inside = resolved.is_relative_to(home)
    row: dict[str, Any] = {
        "audio_filepath": resolved.relative_to(home).as_posix() if inside else str(resolved),
        "duration": round(info.duration_sec, 6),
        "recording": relative,
        "sample_rate": info.sample_rate,
        "channels": info.num_channels,
    }
    if speaker is not None:
        row["speaker"] = speaker
    return row


def _nothing_found(audio_dir: Path, rejected: list[tuple[str, str, str]], others: int) -> str:
    readable = ", ".join(sorted(extension[1:] for extension in READ_EXTENSIONS))
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(row[1] for row in rejected).most_common())
    return (
        f"{audio_dir}: no readable recording (rejected: {reasons or 'none'}; {others} other files); "
        f"formats read: {readable}"
    )
