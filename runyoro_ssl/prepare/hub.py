"""A Hugging Face audio dataset as a folder of recordings with a manifest: `hf://org/name?config=...&split=...`.

Or a local folder that `datasets.load_dataset` reads: `hf:///absolute/folder`, `hf://./relative/folder`. It needs an
Audio column; the licence is that of the row, or of the dataset's card.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import write_jsonl
from runyoro_ssl.errors import AudioError, ConfigError, ManifestError
from runyoro_ssl.logs import get_logger, progress
from runyoro_ssl.model.source import hub_reachable
from runyoro_ssl.prepare.probing import probe_all
from runyoro_ssl.prepare.scan import rejected_path
from runyoro_ssl.redaction import redact

log = get_logger()

SCHEME = "hf://"
MANIFEST, README = "manifest.jsonl", "README.md"
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
        """Parse `hf://org/name?config=...&split=...`; the split is `train` unless said.

        Raises:
            ConfigError: No name, an option that does not exist, or credentials.
        """
        parts = urlsplit(address)
        options = parse_qs(parts.query.replace("+", "%2B"), keep_blank_values=True)  # train+test are two splits
        name = parts.netloc + parts.path.rstrip("/")
        unknown = sorted(options.keys() - {"config", "split"})
        if not name or unknown:
            problem = f'no option "{unknown[0]}"' if unknown else "no dataset is named"
            raise ConfigError(f"prepare.manifest_path is {address}: {problem}; write {SCHEME}org/name?config=C&split=S")
        config = options.get("config", [""])[0] or None
        if "@" in parts.netloc:
            raise ConfigError(
                f"prepare.manifest_path is {address}: credentials do not belong in it; log in once by `hf auth login`, "
                "or set HF_TOKEN"
            )
        return cls(name, config, options.get("split", ["train"])[0] or "train")

    @property
    def is_local(self) -> bool:
        """Whether the dataset is a folder of this machine."""
        return Path(self.name).is_dir()

    def __str__(self) -> str:
        config = f"config={self.config}&" if self.config else ""
        return f"{SCHEME}{self.name}?{config}split={self.split}"


def local_manifest(config: Config, downloads: Path) -> Path:
    """The path of the manifest; that of a dataset of the hub is written, with its recordings, into `downloads`.

    Raises:
        ConfigError: An address that cannot be one.
        ManifestError: The dataset cannot be reached or has no audio.
    """
    if not config.prepare.manifest_path.startswith(SCHEME):
        return Path(config.prepare.manifest_path)
    address = HubAddress.parse(config.prepare.manifest_path)
    folder = downloads / hashlib.sha256(str(address).encode()).hexdigest()[:16]
    if (folder / MANIFEST).exists():
        log.info(
            "fetched_before", dataset=str(address), folder=str(folder), remedy="remove the folder to fetch it anew"
        )
    else:
        _download(address, folder, config)
    return folder / MANIFEST


def _download(address: HubAddress, folder: Path, config: Config) -> None:
    """Write every recording as the bytes it has on the hub, and the manifest last."""
    rows, column = _open(address)
    licence = rows.info.license or _licence_of_card(address)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines: dict[Path, dict[str, Any]] = {}
    with progress("recordings") as bar:
        task = bar.add_task(f"Fetching {address.name}", total=rows.num_rows)
        for index, row in enumerate(rows):
            bar.advance(task)
            lines[_write_recording(row[column] or {}, index, folder, Path(address.name))] = _fields(row, licence)
    made: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    for path, found in probe_all(list(lines), config):
        if isinstance(found, AudioError):
            broken.append({"row": int(path.stem), "reason": found.reason, "detail": found.detail})
        else:
            made.append({"audio_filepath": path.name, "duration": round(found.duration_sec, 6), **lines[path]})
    if not made:
        raise ManifestError(f"{address}: none of its rows holds audio that can be read; is it an audio dataset?")
    if broken:
        write_jsonl(rejected_path(folder / MANIFEST), broken)
        log.warning("rows_without_audio", rows=len(broken), listed=str(rejected_path(folder / MANIFEST)))
    log.info("fetched", dataset=str(address), recordings=len(made), licence=licence or "not stated")
    write_jsonl(folder / MANIFEST, made)


def _open(address: HubAddress) -> tuple[Any, str]:
    """The rows, audio as encoded bytes, and the name of the audio column."""
    from datasets import Audio, load_dataset
    from datasets.exceptions import DatasetsError

    try:
        with _without_torchcodec(), _offline_if_out_of_reach(address):
            rows = load_dataset(address.name, address.config, split=address.split)
    except (OSError, ValueError, DatasetsError) as error:
        raise ManifestError(
            f"{address}: cannot be loaded ({_first_line(error.__cause__ or error)}); check the name, the configuration "
            "and the split. Offline, only what was fetched before is at hand"
        ) from None
    column = next((name for name, kind in rows.features.items() if isinstance(kind, Audio)), None)
    if column is None:
        raise ManifestError(f"{address}: no audio column; its columns are {', '.join(rows.features)}")
    return rows.cast_column(column, Audio(decode=False)), column


@contextmanager
def _without_torchcodec() -> Iterator[None]:
    """`datasets` wants torchcodec's encoder at hand for every row of a folder of files, and never uses it."""
    if find_spec("torchcodec"):
        yield
        return
    encoders = ModuleType("torchcodec.encoders")
    encoders.AudioEncoder = None  # type: ignore[attr-defined]
    sys.modules |= {"torchcodec": ModuleType("torchcodec"), encoders.__name__: encoders}
    try:
        yield
    finally:
        del sys.modules["torchcodec"], sys.modules[encoders.__name__]


@contextmanager
def _offline_if_out_of_reach(address: HubAddress) -> Iterator[None]:
    """Only what was fetched before, at once: `datasets` has no argument for that."""
    from datasets import config

    offline = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = offline or not (address.is_local or hub_reachable())
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = offline


def _licence_of_card(address: HubAddress) -> str | None:
    """The card is the README.md of a dataset; `datasets` does not read the licence from it."""
    from huggingface_hub import DatasetCard, hf_hub_download
    from yaml import YAMLError

    try:
        if address.is_local:
            path = str(Path(address.name) / README)
        else:
            path = hf_hub_download(address.name, README, repo_type="dataset", local_files_only=not hub_reachable())
        card = DatasetCard.load(path, ignore_metadata_errors=True).data
    except (OSError, ValueError, YAMLError):  # it has none, or none that can be read
        return None
    licences = card.license if isinstance(card.license, list) else [card.license]
    named = [card.get("license_name") or one if one == "other" else one for one in licences if one]
    return ", ".join(map(str, named)) or None


def _write_recording(audio: Mapping[str, Any], index: int, folder: Path, home: Path) -> Path:
    """The file of a row: empty if it holds no audio."""
    path = folder / f"{index:07d}{Path(audio.get('path') or '').suffix}"
    data = audio.get("bytes")
    if data is None and audio.get("path") and _is_of_dataset(Path(audio["path"]), home):
        data = Path(audio["path"]).read_bytes()
    path.write_bytes(data or b"")
    # A preparation tells files apart by size and time: fetched again, it must find the same.
    stamp = zlib.crc32(data or b"")
    os.utime(path, (stamp, stamp))
    return path


def _is_of_dataset(path: Path, home: Path) -> bool:
    """Whether a row names a file that came with its dataset: others of this machine are none of its business."""
    from datasets import config

    homes = (home, Path(config.HF_DATASETS_CACHE), Path(config.HF_CACHE_HOME))
    return path.is_file() and any(path.resolve().is_relative_to(one.resolve()) for one in homes)


def _fields(row: Mapping[str, Any], licence: str | None) -> dict[str, str]:
    """What the manifest knows of a row, without secrets."""
    found = {
        field: next((row[one] for one in names if row.get(one) not in (None, "")), None)
        for field, names in FIELDS.items()
    }
    found["licence"] = found["licence"] or licence
    return {field: str(redact(str(value))) for field, value in found.items() if value is not None}


def _first_line(error: BaseException) -> str:
    return str(redact((str(error).strip().splitlines() or [type(error).__name__])[0]))[:200]
