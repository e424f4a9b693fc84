"""A part of a file, as it was found or as a table has it, and the line of the manifest that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runyoro_ssl.audio.decode import LENGTH_TOLERANCE_SEC, AudioInfo
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError


@dataclass(frozen=True)
class FilePart:
    """A file that is wanted, or a part of it from `start_sec` to `end_sec`; `fields` are of its speaker and so on."""

    path: Path
    recording: str
    speaker: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    start_sec: float | None = None
    end_sec: float | None = None
    row: str = ""
    """The row of the table that says so."""

    def length_sec(self, file_sec: float) -> float:
        """Its seconds, in a file of so many.

        Raises:
            AudioError: The part lies behind the end of the file, or reaches past it.
        """
        start, end = self.start_sec or 0.0, file_sec if self.end_sec is None else self.end_sec
        if start >= file_sec or end > file_sec + LENGTH_TOLERANCE_SEC:
            words = f"{self.row} has {start:g} to {end:g} s, the file {file_sec:.2f} s"
            raise AudioError(Reason.SHORTER_THAN_STATED, words)
        return min(end, file_sec) - start


def manifest_line(part: FilePart, info: AudioInfo, home: Path) -> dict[str, Any]:
    """The line of the manifest in the folder `home` for a part of a file. Raises AudioError as `length_sec`."""
    resolved = part.path.resolve()
    inside = resolved.is_relative_to(home)
    line: dict[str, Any] = {
        "audio_filepath": resolved.relative_to(home).as_posix() if inside else str(resolved),
        "duration": round(part.length_sec(info.duration_sec), 6),
        "recording": part.recording,
        "sample_rate": info.sample_rate,
        "channels": info.num_channels,
    }
    if part.start_sec is not None:
        line["offset"] = part.start_sec
    if info.flaw is not None:
        line["flaw"] = str(info.flaw)
    if part.speaker is not None:
        line["speaker"] = part.speaker
    return line | part.fields
