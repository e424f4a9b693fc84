"""A Hugging Face audio dataset as a folder of recordings with a manifest: `hf://org/name?config=...&split=...`."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from runyoro_ssl.errors import AudioError, ConfigError, ManifestError
from runyoro_ssl.logs import get_logger, progress
from runyoro_ssl.prepare.audio import probe
from runyoro_ssl.prepare.manifest import write_jsonl

log = get_logger()

SCHEME = "hf://"
MANIFEST = "manifest.jsonl"
FIELDS = {
    "speaker": ("speaker", "speaker_id", "client_id"),
    "language": ("language", "locale", "lang"),
    "recording": ("recording", "recording_id"),
    "text": ("text", "transcription", "sentence"),
    "licence": ("licence", "license"),
}
"""Manifest field, and the columns that are known to hold it."""


@dataclass(frozen=True)
class HubAddress:
    """A dataset on the hub, or a local folder that `datasets.load_dataset` reads."""

    name: str
    config: str | None
    split: str

    @classmethod
    def parse(cls, address: str) -> Self:
        """From `hf://org/name?config=...&split=...`; the split is `train` unless said.

        Raises:
            ConfigError: No name, or an option that does not exist.
        """
        parts = urlsplit(address)
        options = parse_qs(parts.query, keep_blank_values=True)
        name = parts.netloc + parts.path.rstrip("/")
        unknown = sorted(options.keys() - {"config", "split"})
        if not name or unknown:
            problem = f'no option "{unknown[0]}"' if unknown else "no dataset is named"
            raise ConfigError(f"prepare.manifest_path is {address}: {problem}; write {SCHEME}org/name?config=C&split=S")
        config = options.get("config", [""])[0] or None
        return cls(name, config, options.get("split", ["train"])[0] or "train")

    def __str__(self) -> str:
        config = f"config={self.config}&" if self.config else ""
        return f"{SCHEME}{self.name}?{config}split={self.split}"


def local_manifest(path_or_address: str, downloads: Path) -> Path:
    """The manifest's path; for a dataset of the hub, of one that is written with its recordings into `downloads`.

    Raises:
        ConfigError: An address that cannot be one.
        ManifestError: The dataset cannot be reached or has no audio.
    """
    if not path_or_address.startswith(SCHEME):
        return Path(path_or_address)
    address = HubAddress.parse(path_or_address)
    folder = downloads / hashlib.sha256(str(address).encode()).hexdigest()[:16]
    if not (folder / MANIFEST).exists():
        _download(address, folder)
    return folder / MANIFEST


def _download(address: HubAddress, folder: Path) -> None:
    """Write every recording as the bytes it has on the hub, and the manifest last."""
    rows, column = _open(address)
    licence = rows.info.license or None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with progress("recordings") as bar:
        task = bar.add_task(f"Fetching {address.name}", total=rows.num_rows)
        made: list[dict[str, Any]] = []
        for index, row in enumerate(rows):
            bar.advance(task)
            made += _write_recording(row, column, index, folder, licence)
    if not made:
        raise ManifestError(f"{address}: none of its rows holds audio that can be read; is it an audio dataset?")
    log.info("fetched", dataset=str(address), recordings=len(made), licence=licence or "not stated")
    write_jsonl(folder / MANIFEST, made)


def _open(address: HubAddress) -> tuple[Any, str]:
    """The rows, audio as encoded bytes, and the name of the audio column."""
    from datasets import Audio, load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(address.name, address.config, split=address.split)
    except (OSError, ValueError, DatasetsError) as error:
        raise ManifestError(
            f"{address}: cannot be loaded ({_first_line(error)}); check the name, the configuration and the split. "
            "Offline, only what was fetched before is at hand"
        ) from None
    column = next((name for name, kind in rows.features.items() if isinstance(kind, Audio)), None)
    if column is None:
        raise ManifestError(f"{address}: no audio column; its columns are {', '.join(rows.features)}")
    return rows.cast_column(column, Audio(decode=False)), column


def _write_recording(
    row: Mapping[str, Any], column: str, index: int, folder: Path, licence: str | None
) -> Iterator[dict[str, Any]]:
    """The manifest line of a row whose audio can be read; what cannot be is said."""
    audio = row[column] or {}
    name = f"{index:07d}{Path(audio.get('path') or '').suffix}"
    data = audio.get("bytes")
    if data is None and audio.get("path") and Path(audio["path"]).is_file():
        data = Path(audio["path"]).read_bytes()
    (folder / name).write_bytes(data or b"")
    try:
        info = probe(folder / name)
    except AudioError as error:
        log.warning("row_without_audio", row=index, reason=str(error))
        return
    found = {
        field: next((row[one] for one in names if row.get(one) not in (None, "")), None)
        for field, names in FIELDS.items()
    }
    found["licence"] = found["licence"] or licence
    yield {
        "audio_filepath": name,
        "duration": round(info.duration_sec, 6),
        **{field: str(value) for field, value in found.items() if value is not None},
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
