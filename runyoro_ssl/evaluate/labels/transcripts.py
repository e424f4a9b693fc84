"""What is said in each clip, where the manifest says it and the clip is the whole of its line."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.dataset.layout import SPLITS
from runyoro_ssl.evaluate.labels.places import SourcePart

TEXT = "text"
APOSTROPHES = "'\u2019\u02bc\u2018\u02bb`\u00b4"
ABUT_SEC = 0.002
"""Stretches of one manifest line follow each other at once, but for rounding."""
NO_TEXT, EMPTY_TEXT, PIECE = "no transcript", "an empty transcript", "a piece of a longer line, or it may be one"
PLACE = ("offset", "duration")


@dataclass(frozen=True)
class Transcripts:
    """The normalised transcript of each clip, None where it has none of its own; why, with counts."""

    texts: Sequence[str | None]
    left_out: dict[str, int]


def normalise(text: str) -> str:
    """A transcript as what is heard: NFC, lower case, single spaces, no punctuation but apostrophes; digits stay.

    Apostrophes of all shapes become one, and are kept in words, not as quotes around one; hyphens part words.
    """
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    words = "".join(_character(one) for one in plain).split()
    bare = (word.strip("'") if word.startswith("'") and word.endswith("'") else word for word in words)
    return " ".join(word for word in bare if word)


def _character(one: str) -> str:
    if one in APOSTROPHES:
        return "'"
    return one if unicodedata.category(one)[0] in "LMN" else " "


def read_metadata(splits: Mapping[str, Any], sources: Collection[str]) -> dict[str, str]:
    """`metadata` of every clip of these sources, in all splits of a dataset, by `id`."""
    found: dict[str, str] = {}
    for name in SPLITS:
        columns = splits[name].select_columns(["id", "source", "metadata"]).with_format("arrow")
        for batch in columns.iter(batch_size=1000):
            ids, names, values = (batch.column(column).to_pylist() for column in ("id", "source", "metadata"))
            found |= {clip: value for clip, of, value in zip(ids, names, values, strict=True) if of in sources}
    return found


def transcripts_of(
    ids: Sequence[str],
    sources: Sequence[str],
    stretches: Mapping[str, Sequence[SourcePart]],
    metadata: Mapping[str, str],
    max_duration_sec: float,
) -> Transcripts:
    """The transcripts of clips that are the whole of their manifest lines.

    A piece of a line has the line's text, and nothing marks it. But `prepare` accounts for every sample: what it cuts
    is longer than `max_duration_sec`, and becomes stretches, kept or dropped, that follow each other at once; those
    kept have the same metadata. So a clip is whole where such stretches about it are not longer together. Whole clips
    beside dropped ones may be left out by that; a piece never gets the text of a line.

    Args:
        ids: Of the clips that are asked for.
        sources: Theirs.
        stretches: What became of each source: `places.read_stretches()`.
        metadata: JSON of every clip of these sources, by id: `read_metadata()`.
        max_duration_sec: The setting that the dataset was prepared with.
    """
    wholes: dict[tuple[str, str], set[str]] = {}
    found: list[str | None] = []
    reasons: Counter[str] = Counter()
    for clip, source in zip(ids, sources, strict=True):
        text = json.loads(metadata[clip]).get(TEXT)
        key = source, _line(metadata[clip])
        if key not in wholes:
            wholes[key] = _whole_clips(stretches[source], key[1], metadata, max_duration_sec)
        normal = normalise(text) if isinstance(text, str) else ""
        why = NO_TEXT if not isinstance(text, str) else PIECE if clip not in wholes[key] else EMPTY_TEXT
        found.append(normal if normal and clip in wholes[key] else None)
        reasons[why] += found[-1] is None
    return Transcripts(found, {why: count for why, count in reasons.items() if count})


def _line(metadata: str) -> str:
    """What a clip's metadata say of its line, but for the place of the clip."""
    fields = {name: value for name, value in json.loads(metadata).items() if name not in PLACE}
    return json.dumps(fields, sort_keys=True)


def _whole_clips(
    stretches: Sequence[SourcePart], line: str, metadata: Mapping[str, str], max_duration_sec: float
) -> set[str]:
    """The clips of this line, or of lines like it, that are no pieces."""
    ours = [part for part in stretches if not part.clip_id or _line(metadata[part.clip_id]) == line]
    whole: set[str] = set()
    chain: list[SourcePart] = []
    end = float("-inf")
    for part in [*ours, SourcePart(float("inf"), float("inf"))]:
        if part.start_sec > end + ABUT_SEC:
            if not _is_cut(chain, end, max_duration_sec):
                whole |= {one.clip_id for one in chain if one.clip_id}
            chain = []
        chain.append(part)
        end = max(end, part.end_sec)
    return whole


def _is_cut(chain: Sequence[SourcePart], end_sec: float, max_duration_sec: float) -> bool:
    """Whether stretches that follow each other at once may be of one line that was cut."""
    if len(chain) < 2:  # noqa: PLR2004 - one alone was not cut
        return False
    has_gap = any(part.reason == Reason.NON_FINITE for part in chain)
    return has_gap or end_sec - chain[0].start_sec > max_duration_sec - ABUT_SEC
