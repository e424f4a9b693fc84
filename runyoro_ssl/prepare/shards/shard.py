"""Shards, the units of work: some manifest lines to one Arrow file and one account, kept until they are not needed.

A shard is named by the content of its input and settings, and appears whole or not at all: a preparation that was
killed goes on with what it finds, and one with a grown manifest makes only what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyoro_ssl.dataset.write import RowWriter
from runyoro_ssl.disk.durable import put_in_place
from runyoro_ssl.disk.temporary import TEMPORARY
from runyoro_ssl.errors import DatasetError
from runyoro_ssl.prepare.accounts import Account
from runyoro_ssl.prepare.clips.make import ClipMaker
from runyoro_ssl.prepare.manifest import ManifestEntry
from runyoro_ssl.prepare.workers import stop_watch


@dataclass(frozen=True)
class Line:
    """A manifest line. `content` tells it, and its file's size and time, apart; `key` the settings, too."""

    content: str
    key: str
    entry: ManifestEntry


@dataclass(frozen=True)
class Shard:
    """One unit of work: some manifest lines that one worker prepares."""

    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        """A name that follows from its content."""
        return _sha256("".join(line.key for line in self.lines))[:32]

    @property
    def seconds(self) -> float:
        """The audio that its lines state, seconds."""
        return sum(line.entry.duration for line in self.lines)

    def one_by_one(self) -> list[Shard]:
        """Shards of one line each."""
        return [Shard((line,)) for line in self.lines]


@dataclass(frozen=True)
class StoredLine:
    """A line that was worked on: its account, and where its rows are; it has none if `rows` is empty."""

    account: Account
    arrow: Path
    rows: range


def with_keys(entries: Sequence[ManifestEntry], manifest_dir: Path, clips_sha256: str) -> list[Line]:
    """Give the lines of a manifest their keys."""
    contents = [_content(entry, manifest_dir) for entry in entries]
    return [
        Line(content, _sha256(f"{clips_sha256}\0{content}"), entry)
        for content, entry in zip(contents, entries, strict=True)
    ]


def plan(lines: Sequence[Line], done: Mapping[str, Any], shard_seconds: float) -> list[Shard]:
    """Plan what is still to do, in shards of about `shard_seconds` of consecutive lines.

    What is left of a plan of which some shards are done falls into the same shards as before.
    """
    shards: list[list[Line]] = [[]]
    seconds = 0.0
    for line in lines:
        if line.key in done or (shards[-1] and seconds + line.entry.duration > shard_seconds):
            shards.append([])
            seconds = 0.0
        if line.key not in done:
            shards[-1].append(line)
            seconds += line.entry.duration
    return [Shard(tuple(part)) for part in shards if part]


@dataclass(frozen=True)
class MakeShard:
    """The work of making a shard, in a worker. Picklable.

    A new worker process must import what this needs before it starts: datasets alone would take twice as long as all
    the rest, so the schema is made by the main process.
    """

    maker: ClipMaker
    schema: Any
    folder: Path

    def __call__(self, shard: Shard) -> None:
        """Write the Arrow file, then the account: what has an account is complete.

        Raises:
            DatasetError: The disk is full, or does not take it.
        """
        arrow, account = self.folder / f"{shard.name}.arrow", self.folder / f"{shard.name}.json"
        try:
            with RowWriter(_temporary(arrow), self.schema) as writer:
                accounts = [self.maker.make(line.key, line.entry, writer.add) for line in shard.lines]
            stop_watch()
            num_bytes = put_in_place(_temporary(arrow), arrow) if writer.num_rows else 0
            value = {"arrow_bytes": num_bytes, "lines": [made.to_json() for made in accounts]}
            _temporary(account).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
            put_in_place(_temporary(account), account)
        except OSError as error:
            raise cannot_write(self.folder, error) from None
        finally:
            stop_watch()
            for path in (arrow, account):
                with suppress(OSError):
                    _temporary(path).unlink(missing_ok=True)


def find_done(folder: Path, wanted: Iterable[str], *, settled: bool = True, trial: str = "") -> dict[str, StoredLine]:
    """Find the lines that shards in a folder hold, by key: those `wanted`. A shard that is not whole is left out.

    So are lines that were dropped for a reason that may have passed: all of them if `settled`, else those that were
    tried again with success. With `trial`, so are lines of which that was not asked.
    """
    keys = set(wanted)
    found: dict[str, StoredLine] = {}
    for path in sorted(folder.glob("[0-9a-f]*.json")):
        for one in _read_accounts(path):
            key, is_settled = one.account.key, one.account.is_settled
            if trial not in ("", one.account.trial):
                continue
            if key in keys and (is_settled or not settled) and (key not in found or is_settled):
                found[key] = one
    return found


def cannot_write(folder: Path, error: OSError) -> DatasetError:
    """The error of a folder that does not take a file: the disk is full, mostly."""
    why = os.strerror(error.errno) if error.errno else str(error)
    return DatasetError(
        f"{folder}: cannot write ({why}); make room, and run the same again: what is done stays, and is not done again"
    )


def _read_accounts(path: Path) -> Iterator[StoredLine]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        arrow = path.with_suffix(".arrow")
        accounts = [Account.from_json(line) for line in value["lines"]]
        if value["arrow_bytes"] != (arrow.stat().st_size if value["arrow_bytes"] else 0):
            return
    except (OSError, ValueError, KeyError, TypeError):  # damaged: it is made again
        return
    first = 0
    for account in accounts:
        yield StoredLine(account, arrow, range(first, first + len(account.clips)))
        first += len(account.clips)


def _content(entry: ManifestEntry, manifest_dir: Path) -> str:
    try:
        stat = (manifest_dir / entry.audio_filepath).stat()
        file = f"{stat.st_size} {stat.st_mtime_ns}"
    except (OSError, ValueError):  # missing, or no possible name
        file = "missing"
    line = json.dumps(entry.model_dump(), sort_keys=True)
    return _sha256(f"{line}\0{file}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _temporary(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY}{socket.gethostname()}-{os.getpid()}-{path.name}")
