"""Manifest lines to clips: decode, cut, filter. This is what worker processes run."""

from __future__ import annotations

import itertools
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from runyoro_ssl.errors import AudioError, PluginError
from runyoro_ssl.hookspecs import Filter, Utterance
from runyoro_ssl.prepare.audio import check_length, decode, is_shorter
from runyoro_ssl.prepare.dataset import write_shard
from runyoro_ssl.prepare.manifest import ManifestEntry
from runyoro_ssl.prepare.segment import cut

CARRIED = frozenset({"audio_filepath", "duration", "recording", "speaker", "language"})
"""Manifest fields that have a column, or lose their meaning; the others go into `metadata`."""


@dataclass(frozen=True)
class Drop:
    """Audio that did not make it: `num_samples` at the model's rate, and why."""

    source: str
    offset_sec: float
    num_samples: int
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class ClipFacts:
    """What stays known of a kept clip once its samples are on disk. `file` is its real path."""

    id: str
    file: str
    recording: str
    speaker: str | None
    num_samples: int
    crc32: int


@dataclass
class Tally:
    """The account of some manifest lines, in samples at the model's rate: in = kept + dropped, exactly."""

    clips_in: int = 0
    samples_in: int = 0
    clips_cut: int = 0
    pieces: int = 0
    clips_kept: int = 0
    samples_kept: int = 0
    drops: list[Drop] = field(default_factory=list)

    def __iadd__(self, other: Tally) -> Self:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def dropped(self) -> dict[str, tuple[int, int]]:
        """Reason -> (clips, samples), largest first."""
        clips: Counter[str] = Counter()
        samples: Counter[str] = Counter()
        for drop in self.drops:
            clips[drop.reason] += 1
            samples[drop.reason] += drop.num_samples
        return {reason: (clips[reason], count) for reason, count in samples.most_common()}


@dataclass(frozen=True)
class ClipMaker:
    """Turns manifest lines into kept clips and an account of the rest. Picklable: workers receive it."""

    manifest_dir: Path
    sample_rate: int
    max_duration_sec: float
    filters: tuple[tuple[str, Filter], ...]

    def make(self, entries: Sequence[ManifestEntry]) -> tuple[list[dict[str, Any]], list[ClipFacts], Tally]:
        """Rows of the dataset (without split), what to remember of each, and the tally of these lines."""
        rows: list[dict[str, Any]] = []
        facts: list[ClipFacts] = []
        tally = Tally()
        for entry in entries:
            file = self.real_path(entry)
            for row in self._rows(entry, tally):
                rows.append(row)
                crc32 = zlib.crc32(row["audio"])
                facts.append(ClipFacts(row["id"], file, row["recording"], row["speaker"], row["num_samples"], crc32))
        return rows, facts, tally

    def real_path(self, entry: ManifestEntry) -> str:
        """The file behind a line: links and `..` resolved, so that one file has one name."""
        try:
            return str((self.manifest_dir / entry.audio_filepath).resolve())
        except (OSError, ValueError):  # no possible name: it will be counted as unreadable
            return entry.audio_filepath

    def _rows(self, entry: ManifestEntry, tally: Tally) -> Iterator[dict[str, Any]]:
        tally.clips_in += 1
        try:
            waveform = self._decode(entry)
        except AudioError as error:
            stated = round(entry.duration * self.sample_rate)
            tally.samples_in += stated
            tally.drops.append(Drop(entry.audio_filepath, entry.offset or 0.0, stated, error.reason, error.detail))
            return
        tally.samples_in += len(waveform)
        pieces = cut(len(waveform), round(self.max_duration_sec * self.sample_rate))
        if len(pieces) > 1:
            tally.clips_cut += 1
            tally.pieces += len(pieces)
        for start, stop in pieces:
            utterance = self._utterance(entry, waveform, start, stop)
            reason = self._first_objection(utterance)
            if reason is None:
                tally.clips_kept += 1
                tally.samples_kept += utterance.num_samples
                yield to_row(utterance)
            else:
                tally.drops.append(Drop(utterance.source, utterance.offset_sec, utterance.num_samples, reason))

    def _decode(self, entry: ManifestEntry) -> np.ndarray:
        waveform = decode(
            self.manifest_dir / entry.audio_filepath,
            sample_rate=self.sample_rate,
            offset_sec=entry.offset or 0.0,
            # Without an offset, to the end: the duration of a manifest may be rounded.
            duration_sec=None if entry.offset is None else entry.duration,
        )
        check_length(len(waveform) / self.sample_rate, entry.duration, "shorter than stated", "the manifest")
        stated = round(entry.duration * self.sample_rate)
        # The manifest speaks of the first part of a longer file; a few samples more are only its rounding.
        return waveform[:stated] if is_shorter(entry.duration, len(waveform) / self.sample_rate) else waveform

    def _utterance(self, entry: ManifestEntry, waveform: np.ndarray, start: int, stop: int) -> Utterance:
        offset_sec = (entry.offset or 0.0) + start / self.sample_rate
        return Utterance(
            id=f"{Path(entry.audio_filepath).as_posix()}@{offset_sec:.3f}",
            source=entry.audio_filepath,
            recording=entry.recording_id,
            speaker=entry.speaker,
            language=entry.language,
            offset_sec=offset_sec,
            waveform=_read_only(waveform[start:stop]),
            sample_rate=self.sample_rate,
            metadata={
                name: value
                for name, value in itertools.chain(entry, (("offset", offset_sec),))
                if name not in CARRIED and value is not None
            },
        )

    def _first_objection(self, utterance: Utterance) -> str | None:
        for name, judge in self.filters:
            try:
                reason = judge(utterance)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code; name it, the clip and the place
                raise PluginError(
                    f'filter "{name}" failed on {utterance.id}: {type(error).__name__}: {error} '
                    f"({_raised_at(error)}); mend it, or leave it out of plugins.filters"
                ) from None
            if reason is not None and not isinstance(reason, str):
                raise PluginError(
                    f'filter "{name}" returned {reason!r} for {utterance.id}; it must return the reason to drop '
                    "the clip, a string, or None to keep it"
                )
            if reason is not None:
                return reason
        return None


def make_shard(
    maker: ClipMaker, schema: Any, work: tuple[Path, Sequence[ManifestEntry]]
) -> tuple[Tally, list[ClipFacts]]:
    """One shard of the manifest to one Arrow file of this schema.

    A new worker process must import what this needs before it starts: datasets alone would take twice as long as all
    the rest, so the schema is made by the main process.
    """
    path, entries = work
    rows, facts, tally = maker.make(entries)
    if rows:
        write_shard(path, rows, schema)
    return tally, facts


def to_row(utterance: Utterance) -> dict[str, Any]:
    """A row of the dataset; samples as int16, full scale = 32768."""
    samples = np.clip(np.rint(utterance.waveform * 32768.0), -32768, 32767).astype(np.int16)
    return {
        "id": utterance.id,
        "audio": samples,
        "num_samples": len(samples),
        "recording": utterance.recording,
        "speaker": utterance.speaker,
        "language": utterance.language,
        "source": utterance.source,
        "metadata": json.dumps(utterance.metadata, ensure_ascii=False),
    }


def _read_only(waveform: np.ndarray) -> np.ndarray:
    """A view that a filter cannot change: what it sees is what is stored."""
    view = waveform.view()
    view.flags.writeable = False
    return view


def _raised_at(error: BaseException) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "no traceback"
