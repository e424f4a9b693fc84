"""The validation split: held out so that it shares no recording, and no known speaker, with training."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runyoro_ssl.errors import DatasetError


@dataclass(frozen=True)
class SplitItem:
    """A clip as the split sees it. `file` is the real path: the same audio under two names stays together."""

    file: str
    recording: str
    speaker: str | None
    num_samples: int


def choose_validation(
    items: Sequence[SplitItem], *, share: float, by: Literal["speaker", "recording"], seed: int
) -> list[bool]:
    """Choose whether each clip is held out.

    Clips that share a recording (and, with `by="speaker"`, a speaker) form a group; whole groups are drawn in an
    order that follows from `seed` while they bring the held-out seconds nearer to `share` of all.

    Raises:
        DatasetError: There are fewer than two groups, so one split would be empty.
    """
    groups = _group(items, by)
    sizes: dict[int, int] = defaultdict(int)
    for group, item in zip(groups, items, strict=True):
        sizes[group] += item.num_samples
    if len(sizes) < 2:  # noqa: PLR2004 - two splits
        raise DatasetError(_too_few(items, by))
    names: dict[int, str] = {}
    for group, item in zip(groups, items, strict=True):
        names[group] = min(names.get(group, item.recording), item.recording)
    # By lot, but by names: what is held out stays so when the corpus grows, as far as the share allows.
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}\0{names[group]}".encode()).digest())
    target = share * sum(sizes.values())
    chosen: set[int] = set()
    held_out = 0
    for group in order:
        if len(chosen) < len(order) - 1 and abs(held_out + sizes[group] - target) < abs(held_out - target):
            chosen.add(group)
            held_out += sizes[group]
    if not chosen:
        chosen.add(min(order, key=lambda group: sizes[group]))
    return [group in chosen for group in groups]


def check_splittable(items: Sequence[SplitItem], by: Literal["speaker", "recording"]) -> None:
    """Raise DatasetError if these clips form a single group: known before anything is decoded."""
    if len(set(_group(items, by))) < 2:  # noqa: PLR2004 - two splits
        raise DatasetError(_too_few(items, by))


def _group(items: Sequence[SplitItem], by: Literal["speaker", "recording"]) -> list[int]:
    """Group number of each item: connected through recordings, and through speakers if asked (union-find)."""
    parent = list(range(len(items)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, item in enumerate(items):
        keys = [("file", item.file), ("recording", item.recording)]
        if by == "speaker" and item.speaker is not None:
            keys.append(("speaker", item.speaker))
        for key in keys:
            parent[root(index)] = root(first.setdefault(key, index))
    return [root(index) for index in range(len(items))]


def _too_few(items: Sequence[SplitItem], by: str) -> str:
    recordings = {item.recording for item in items}
    speakers = {item.speaker for item in items} - {None}
    if by == "speaker" and len(recordings) > 1:
        named = next(iter(speakers)) if len(speakers) == 1 else f"{len(speakers)} speakers linked by recordings"
        return (
            f'the validation split would be empty: all {len(recordings)} recordings belong to one speaker ("{named}"). '
            "Hold out recordings of that speaker with --set prepare.split_by=recording; the scores then flatter"
        )
    return (
        f"the validation split would be empty: all {len(items)} clips come from one recording "
        f'("{next(iter(recordings))}"). Add another recording; cutting one in two would leak its voice and room'
    )
