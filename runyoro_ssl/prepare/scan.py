"""`invoke manifest`: walk a folder, decode every recording, write the manifest."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runyoro_ssl.audio.decode import AudioInfo, probe
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.builtins.executors.processes import ProcessExecutor
from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import write_jsonl
from runyoro_ssl.errors import AudioError, ConfigError, ManifestError
from runyoro_ssl.logs import progress
from runyoro_ssl.prepare.hours import Drawing, nothing_fits
from runyoro_ssl.prepare.workers import opened, run_ordered, still_alive, stop_watch, why_lost

EXTENSIONS = """
    wav wave w64 rf64 flac mp3 mp2 mpga ogg oga opus spx aif aiff aifc caf au snd gsm m4a m4b aac 3gp 3g2 3gpp amr awb
    wma asf ac3 eac3 mka weba ape wv tta mp4 m4v mov mkv webm avi flv wmv mpg mpeg ts ogv
"""
AUDIO_EXTENSIONS = frozenset(f".{name}" for name in EXTENSIONS.split())
"""Files of these names are tried, videos for their sound; what they really hold decides."""
IN_FLIGHT = 8
"""Files sent out for each worker: none waits for work."""


@dataclass(frozen=True)
class Scan:
    """The result of `invoke manifest`.

    `num_flawed` recordings are damaged, and listed as far as they go. `rejected` holds (path, reason, detail);
    `num_other` files are not audio.
    """

    output: Path
    num_files: int
    seconds: float
    num_speakers: int
    num_without_speaker: int
    num_flawed: int
    rejected: list[tuple[str, str, str]]
    num_other: int

    @property
    def rejected_path(self) -> Path:
        """The file that lists the rejected files."""
        return rejected_path(self.output)

    @property
    def rejected_by_reason(self) -> Counter[str]:
        """The number of rejected files for each reason."""
        return Counter(reason for _, reason, _ in self.rejected)


def scan(
    audio_dir: Path,
    output: Path,
    *,
    speaker_from: str | None = None,
    overwrite: bool = False,
    config: Config | None = None,
) -> Scan:
    """Write a manifest of every readable recording under `audio_dir`, and beside it what was rejected and why.

    Args:
        audio_dir: Walked recursively; links to folders are not followed.
        output: The manifest. Rejected files go to `<stem>.rejected.jsonl` beside it.
        speaker_from: A regular expression searched in each path, relative to `audio_dir` with forward slashes; the
            group `speaker`, or the first group, is the speaker.
        overwrite: Replace an existing manifest.
        config: Its number of workers, its limits on recordings, its hours; None: the defaults.

    Raises:
        ConfigError: A missing folder, a bad expression, an output that exists.
        ManifestError: Not one readable recording.
    """
    pattern = _compile(speaker_from)
    if not audio_dir.is_dir():
        raise ConfigError(f"{audio_dir}: no such folder; give the folder of your recordings as --audio-dir")
    _check_output(output, overwrite=overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)

    files, unreached, others = _walk(audio_dir)
    _check_matches(pattern, files, audio_dir)
    config = config or Config()
    speakers = {path: _speaker(pattern, path, audio_dir) for path in files}
    probed = _probe_some(speakers, audio_dir, config) if config.prepare.max_hours else dict(probe_all(files, config))
    rows: list[dict[str, Any]] = []
    rejected: list[tuple[str, str, str]] = list(unreached)
    for path in files:
        found = probed.get(path, AudioError(Reason.NOT_DRAWN))
        relative = path.relative_to(audio_dir).as_posix()
        if isinstance(found, AudioError):
            rejected.append((_printable(relative), found.reason, found.detail))
        else:
            rows.append(_row(path, relative, found, output, speakers[path]))
    if not rows:
        raise ManifestError(_nothing_found(audio_dir, rejected, others))
    write_jsonl(
        rejected_path(output),
        ({"audio_filepath": path, "reason": reason, "detail": detail} for path, reason, detail in rejected),
    )
    write_jsonl(output, rows)
    return _summarise(output, rows, rejected, others)


def _summarise(output: Path, rows: list[dict[str, Any]], rejected: list[tuple[str, str, str]], num_other: int) -> Scan:
    speakers = [row["speaker"] for row in rows if "speaker" in row]
    return Scan(
        output=output,
        num_files=len(rows),
        seconds=sum(row["duration"] for row in rows),
        num_speakers=len(set(speakers)),
        num_without_speaker=len(rows) - len(speakers),
        num_flawed=sum("flaw" in row for row in rows),
        rejected=rejected,
        num_other=num_other,
    )


def _check_output(output: Path, *, overwrite: bool) -> None:
    """Raise ConfigError if the manifest, or the list of what is rejected, would replace something unasked."""
    for path in (output, rejected_path(output)):
        if path.is_dir() or (path.exists() and not overwrite):
            advice = (
                "give another --output" if path.is_dir() else "add --overwrite to replace it, or give another --output"
            )
            raise ConfigError(f"{path} exists; {advice}")


def _check_matches(pattern: re.Pattern[str] | None, files: list[Path], audio_dir: Path) -> None:
    """Raise ConfigError if a pattern finds a speaker in none of the paths."""
    if pattern is not None and files and not any(_speaker(pattern, path, audio_dir) for path in files):
        example = files[0].relative_to(audio_dir)
        raise ConfigError(
            f'--speaker-from "{pattern.pattern}" matches none of {len(files)} paths, e.g. "{example}"; '
            "it is searched in the path relative to --audio-dir"
        )


def rejected_path(output: Path) -> Path:
    """The file that lists what was rejected for a manifest."""
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
            (_printable(os.path.relpath(error.filename, audio_dir)), Reason.UNREADABLE_FOLDER, str(error.strerror))
        )

    for folder, subfolders, names in os.walk(audio_dir, onerror=refused):
        subfolders.sort()
        for name in subfolders:
            link = Path(folder, name)
            if link.is_symlink():
                unreached.append(
                    (_printable(os.path.relpath(link, audio_dir)), Reason.LINKED_FOLDER, "links are not followed")
                )
        for name in sorted(names):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in AUDIO_EXTENSIONS:
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


@dataclass(frozen=True)
class _Probe:
    """Measures a file in a worker; what can be mended about it comes back as the AudioError it is."""

    max_recording_sec: float
    time_limit_sec: float

    def __call__(self, path: Path) -> AudioInfo | AudioError:
        try:
            str(path).encode()
            return probe(path, max_seconds=self.max_recording_sec, on_block=partial(still_alive, self.time_limit_sec))
        except UnicodeEncodeError:
            return AudioError(Reason.FILE_NAME, "rename the file")
        except AudioError as error:
            return error
        finally:
            stop_watch()


def _probe_some(
    speakers: Mapping[Path, str | None], audio_dir: Path, config: Config
) -> dict[Path, AudioInfo | AudioError]:
    """What was found of the files that `prepare.max_hours` draws, and of those that cannot be read; no more is decoded.

    Raises:
        ManifestError: No recording is so short.
    """
    max_hours = config.prepare.max_hours or math.inf
    names = {path.relative_to(audio_dir).as_posix(): path for path in speakers}
    drawing = Drawing({name: speakers[path] for name, path in names.items()}, max_hours, config.prepare.seed)
    probed: dict[Path, AudioInfo | AudioError] = {}
    wanted = (names[name] for name in drawing.wanted())
    for path, found in probe_all(wanted, config, total=len(names)):
        probed[path] = found
        seconds = 0.0 if isinstance(found, AudioError) else round(found.duration_sec, 6)
        drawing.tell(path.relative_to(audio_dir).as_posix(), seconds)
    lengths = [found.duration_sec for found in probed.values() if isinstance(found, AudioInfo)]
    if lengths and not drawing.chosen:
        raise ManifestError(nothing_fits(max_hours, lengths))
    return {
        path: found
        for path, found in probed.items()
        if isinstance(found, AudioError) or path.relative_to(audio_dir).as_posix() in drawing.chosen
    }


def probe_all(
    files: Iterable[Path], config: Config, *, total: int | None = None
) -> Iterator[tuple[Path, AudioInfo | AudioError]]:
    """Measure every file in a worker; one that kills its worker comes back with that as its error.

    `total` is how many there are, if they are no list.
    """
    num_workers = config.hardware.num_workers
    measure = _Probe(config.prepare.max_recording_sec, config.prepare.time_limit_sec)
    with progress("files") as bar, opened(ProcessExecutor(num_workers)) as executor:
        task = bar.add_task("Reading recordings", total=len(files) if isinstance(files, list) else total)
        for done in run_ordered(executor, measure, files, in_flight=IN_FLIGHT * num_workers):
            bar.advance(task)
            yield done.item, done.result or why_lost(done, config.prepare.time_limit_sec)


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
    if info.flaw is not None:
        row["flaw"] = str(info.flaw)
    if speaker is not None:
        row["speaker"] = speaker
    return row


def _nothing_found(audio_dir: Path, rejected: list[tuple[str, str, str]], others: int) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(row[1] for row in rejected).most_common())
    return (
        f"{audio_dir}: no readable recording (rejected: {reasons or 'none'}; {others} other files); "
        "audio and video of nearly every format is read: is it the right folder?"
    )
