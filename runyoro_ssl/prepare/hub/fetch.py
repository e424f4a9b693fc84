"""A dataset of the hub as a folder of recordings, as the bytes they are there, and a manifest."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from runyoro_ssl.bars import progress
from runyoro_ssl.config import Config
from runyoro_ssl.disk.durable import write_jsonl
from runyoro_ssl.errors import AudioError, ManifestError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.prepare.hub.address import SCHEME, HubAddress
from runyoro_ssl.prepare.hub.arrivals import Arrivals
from runyoro_ssl.prepare.hub.dataset import HubDataset, open_dataset
from runyoro_ssl.prepare.hub.failures import told_in_a_line
from runyoro_ssl.prepare.hub.libraries import set_up_libraries
from runyoro_ssl.prepare.hub.rows import bytes_of, fields_of, suffix_of
from runyoro_ssl.prepare.probing import probe_all
from runyoro_ssl.prepare.scan import rejected_path

log = get_logger()

MANIFEST = "manifest.jsonl"
ROWS_AT_FIRST, ROWS_AT_ONCE = 64, 512
"""Of a stream: after so many their length is known, and they need not be fetched again."""
FILES_AT_ONCE = 8


def local_manifest(config: Config, downloads: Path) -> Path:
    """The path of the manifest; that of a dataset of the hub is written, with its recordings, into `downloads`.

    With `prepare.max_hours` the dataset is streamed, in an order drawn by `prepare.seed`, until so much has come.

    Raises:
        ConfigError: An address that cannot be one.
        ManifestError: The dataset cannot be reached or has no audio.
    """
    settings = config.prepare
    if not settings.manifest_path.startswith(SCHEME):
        return Path(settings.manifest_path)
    address = HubAddress.parse(settings.manifest_path)
    # A part must not be taken for the whole.
    drawn = f" {settings.max_hours} h by {settings.seed}" if settings.max_hours else ""
    folder = downloads / hashlib.sha256(f"{address}{drawn}".encode()).hexdigest()[:16]
    if (folder / MANIFEST).exists():
        log.info(
            "fetched_before", dataset=str(address), folder=str(folder), remedy="remove the folder to fetch it anew"
        )
    else:
        with set_up_libraries(address):
            _fetch(address, folder, config)
    return folder / MANIFEST


def _fetch(address: HubAddress, folder: Path, config: Config) -> None:
    """Write every recording, and the manifest last."""
    settings = config.prepare
    files = folder.with_name(f"{folder.name}.files")
    dataset = open_dataset(address, files, seed=settings.seed if settings.max_hours else None)
    if settings.max_hours:
        arrived = Arrivals.go_on(folder, dataset.commit)
        _stream(dataset, arrived, config, settings.max_hours)
    else:
        arrived = Arrivals.begin(folder)
        arrived.add(*_measure(_write_all(dataset, dataset.rows(), arrived), config))
    if not arrived.lines:
        raise ManifestError(f"{address}: none of its rows holds audio that can be read; is it an audio dataset?")
    if arrived.broken:
        write_jsonl(rejected_path(folder / MANIFEST), arrived.broken)
        log.warning("rows_without_audio", rows=len(arrived.broken), listed=str(rejected_path(folder / MANIFEST)))
    log.info(
        "fetched",
        dataset=str(address),
        recordings=len(arrived.lines),
        hours=round(arrived.seconds / 3600, 3),
        speakers=len({line["speaker"] for line in arrived.lines if "speaker" in line}),
        licence=dataset.licence or "not stated",
    )
    write_jsonl(folder / MANIFEST, arrived.lines)
    arrived.forget_places()
    shutil.rmtree(files, ignore_errors=True)


def _stream(dataset: HubDataset, arrived: Arrivals, config: Config, max_hours: float) -> None:
    """Take rows, as they come, until those that can be read are so many hours."""
    rows = dataset.rows(*arrived.place)
    if arrived.num_rows:
        log.info("going_on", dataset=str(dataset.address), recordings=arrived.num_rows)
    while some := list(islice(rows, _num_wanted(arrived, max_hours * 3600))):
        arrived.remember(*_measure(_write_all(dataset, some, arrived), config), place=some[-1][0])


def _num_wanted(arrived: Arrivals, max_sec: float) -> int:
    """The number of rows to take next, by the mean length of those before."""
    if not arrived.seconds:
        return ROWS_AT_FIRST
    mean_sec = arrived.seconds / len(arrived.lines)
    return max(0, min(ROWS_AT_ONCE, math.ceil((max_sec - arrived.seconds) / mean_sec)))


def _measure(
    written: Iterable[tuple[Path, dict[str, str]]], config: Config
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of the manifest for recordings that were written, and the rows that are none."""
    fields = dict(written)
    lines: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    for path, found in probe_all(list(fields), config):
        if isinstance(found, AudioError):
            broken.append({"row": int(path.stem), "reason": found.reason, "detail": found.detail})
        else:
            flaw = {} if found.flaw is None else {"flaw": found.flaw}
            measured = {"audio_filepath": path.name, "duration": round(found.duration_sec, 6)}
            lines.append({**measured, **fields[path], **flaw})
    return lines, broken


def _write_all(
    dataset: HubDataset, rows: Iterable[tuple[Any, Mapping[str, Any]]], arrived: Arrivals
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Write the recordings of rows. Gives each file, and what the manifest says of it."""
    numbered = ((number, row) for number, (_, row) in enumerate(rows, start=arrived.num_rows))

    def write(one: tuple[int, Mapping[str, Any]]) -> tuple[Path, dict[str, str]]:
        number, row = one
        found = row.get(dataset.column)
        audio = found if isinstance(found, Mapping) else {}
        with told_in_a_line(dataset.address):
            content = bytes_of(audio, dataset.address, dataset.home)
        return _write(arrived.folder / f"{number:07d}{suffix_of(audio)}", content), fields_of(row, dataset.licence)

    with progress("recordings") as bar, ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        task = bar.add_task(f"Fetching {dataset.address.name}", total=dataset.num_rows, completed=arrived.num_rows)
        # A pool asks for all rows at once: those of files that were fetched would not fit into memory.
        for written in pool.map(write, numbered) if isinstance(rows, list) else map(write, numbered):
            bar.advance(task)
            yield written


def _write(path: Path, content: bytes) -> Path:
    """Write a recording: an empty file if it holds no audio."""
    path.write_bytes(content)
    # A preparation tells files apart by size and time: fetched again, it must find the same.
    stamp = zlib.crc32(content)
    os.utime(path, (stamp, stamp))
    return path
