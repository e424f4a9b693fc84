"""A data folder of Kaldi (`wav.scp`, and `segments`, `utt2spk`, `text`, `utt2lang` where they are) as a table."""

from __future__ import annotations

from pathlib import Path

from runyoro_ssl.disk.text import read_text
from runyoro_ssl.errors import ConfigError, ManifestError
from runyoro_ssl.prepare.tables.read import Row, Table

SCRIPT = "wav.scp"
COLUMNS = ("path", "recording", "speaker", "text", "language", "start", "end")
"""The columns of the table, named for what they hold."""


def is_kaldi(path: Path) -> bool:
    """Whether a path is that of a data folder of Kaldi."""
    return (path / SCRIPT).is_file()


def read_kaldi(folder: Path) -> Table:
    """Read a data folder of Kaldi.

    Raises:
        ConfigError: A file that cannot be read.
        ManifestError: A segment of a recording that there is not, or no recording.
    """
    files = _pairs(folder / SCRIPT)
    speakers, texts, languages = (_pairs(folder / name) for name in ("utt2spk", "text", "utt2lang"))
    segments = _pairs(folder / "segments") or {name: name for name in files}
    rows = []
    for utterance, place in segments.items():
        recording, start, end = [*place.split(), "", ""][:3]
        if recording not in files:
            raise ManifestError(
                f'{folder}/segments: "{utterance}" is of "{recording}", which is not in {SCRIPT}; mend it'
            )
        about = (one.get(utterance, "") for one in (speakers, texts, languages))
        rows.append(Row(f'utterance "{utterance}"', [files[recording], recording, *about, start, end]))
    if not rows:
        raise ManifestError(f"{folder}/{SCRIPT}: the table is empty; give another --table")
    return Table(folder, COLUMNS, rows)


def _pairs(path: Path) -> dict[str, str]:
    """The first word of each line, and the rest; of a file that is not there, nothing."""
    if not path.is_file():
        return {}
    try:
        text, _ = read_text(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give another --table") from None
    words = (line.split(None, 1) for line in text.split("\n"))
    return {pair[0]: pair[1].strip() if len(pair) > 1 else "" for pair in words if pair}
