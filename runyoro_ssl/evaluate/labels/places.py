"""Where the clips of a prepared dataset lie in their recordings, and what else of these is known."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyoro_ssl.dataset.layout import CLIPS, DROPPED
from runyoro_ssl.errors import EvaluationError

GAP_SEC = 0.05
"""A longer gap in what a manifest has of a recording says that the recording goes on elsewhere, too."""


@dataclass(frozen=True)
class SourcePart:
    """A part of a recording that `prepare` kept as a clip, or dropped for a reason; the reason of a clip is ""."""

    start_sec: float
    end_sec: float
    clip_id: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Place:
    """Where a clip lies.

    Attributes:
        clip_id: `id` of the dataset.
        source: The path of its recording, as the manifest has it.
        offset_sec: Where it begins there.
        duration_sec: How long it is.
        recording_sec: How far the recording is known to go.
        ends_there: The manifest has it from its start to there, so that there is no more of it, most likely.
        sample_rate: That of the recording itself, Hz, where the manifest says it.
    """

    clip_id: str
    source: str
    offset_sec: float
    duration_sec: float
    recording_sec: float
    ends_there: bool = True
    sample_rate: int | None = None


def read_stretches(dataset_dir: Path, sampling_rate: int) -> dict[str, list[SourcePart]]:
    """All that became of each source, kept or dropped, by where it begins.

    Raises:
        EvaluationError: `clips.jsonl` or `dropped.jsonl` of the dataset cannot be read.
    """
    found: defaultdict[str, list[SourcePart]] = defaultdict(list)
    for clip in _lines(dataset_dir / CLIPS):
        start, seconds = float(clip["offset"]), float(clip["duration"])
        found[clip["audio_filepath"]].append(SourcePart(start, start + seconds, clip_id=str(clip["id"])))
    for drop in _lines(dataset_dir / DROPPED):
        start, seconds = float(drop["offset_sec"]), drop["num_samples"] / sampling_rate
        found[drop["source"]].append(SourcePart(start, start + seconds, reason=str(drop["reason"])))
    return {source: sorted(parts, key=lambda part: (part.start_sec, part.end_sec)) for source, parts in found.items()}


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{path}: cannot be read ({type(error).__name__}), and says where each clip lies in its recording; run "
            "`invoke prepare --overwrite`"
        ) from None


def places_of(rows: Sequence[Mapping[str, Any]], stretches: Mapping[str, Sequence[SourcePart]]) -> list[Place]:
    """Where these clips lie, of rows with `id`, `source` and `metadata` of the dataset.

    Raises:
        EvaluationError: A row's metadata does not say where it lies.
    """
    return [_place(row, stretches.get(row["source"], ())) for row in rows]


def _place(row: Mapping[str, Any], stretches: Sequence[SourcePart]) -> Place:
    try:
        metadata = json.loads(row["metadata"])
        offset, seconds = float(metadata["offset"]), float(metadata["duration"])
    except (KeyError, TypeError, ValueError):
        raise EvaluationError(
            f"clip {row['id']}: its metadata does not say where it lies in its recording; run "
            "`invoke prepare --overwrite`"
        ) from None
    reached, covered = 0.0, True
    for stretch in stretches or [SourcePart(offset, offset + seconds)]:
        covered = covered and stretch.start_sec <= reached + GAP_SEC
        reached = max(reached, stretch.end_sec)
    rate = metadata.get("sample_rate")
    known_rate = rate if isinstance(rate, int) and rate > 0 else None
    return Place(row["id"], row["source"], offset, seconds, reached, covered, known_rate)
