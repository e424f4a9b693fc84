"""The validation split: held out so that it shares no recording, and no known speaker, with training."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Literal

from runyoro_ssl.errors import DatasetError

Group = Literal["speaker", "recording"]
"""What the splits never share."""
SplitBy = Literal["auto", "speaker", "recording"]
"""What they are asked not to share."""


@dataclass(frozen=True)
class SplitItem:
    """A clip as the split sees it. `file` is the real path: the same audio under two names stays together."""

    file: str
    recording: str
    speaker: str | None
    num_samples: int


def _always(_index: int) -> bool:
    return True


def decide_group(items: Sequence[SplitItem], by: SplitBy, *, can_judge: Callable[[int], bool] = _always) -> Group:
    """Decide what is held out whole: with "auto", speakers where two or more groups of them can be judged.

    `can_judge` says of a clip, by number, whether its loss tells anything.
    """
    if by != "auto":
        return by
    if all(item.speaker is None for item in items):
        return "recording"
    groups = _Groups(items, "speaker", can_judge)
    if groups.hold_two(groups.numbers):
        return "speaker"
    return "recording"


def choose_validation(
    items: Sequence[SplitItem],
    *,
    share: float,
    by: Group,
    seed: int,
    can_judge: Callable[[int], bool] = _always,
) -> list[bool]:
    """Choose whether each clip is held out.

    Clips that share a recording (and, with `by="speaker"`, a speaker) form a group; whole groups are drawn in an
    order that follows from `seed` while they bring the held-out seconds nearer to `share` of all. A group is drawn, and
    one is left to train on, only if it holds a clip that can be judged; `can_judge` is asked about no more than that.

    Raises:
        DatasetError: There are fewer than two groups that can be judged, so one split would be empty.
    """
    groups = _Groups(items, by, can_judge)
    # By lot, but by names: what is held out stays so when the corpus grows, as far as the share allows.
    order = sorted(groups.numbers, key=lambda group: hashlib.sha256(f"{seed}\0{groups.name(group)}".encode()).digest())
    if not groups.hold_two(order):
        raise DatasetError(_too_few(items, by, groups.numbers))
    target = share * sum(item.num_samples for item in items)
    chosen: set[int] = set()
    held_out = 0
    for group in order:
        size = groups.num_samples(group)
        nearer = abs(held_out + size - target) < abs(held_out - target)
        if nearer and groups.can_judge(group) and groups.is_one_left(order, chosen | {group}):
            chosen.add(group)
            held_out += size
    if not chosen:
        chosen.add(next(group for group in sorted(order, key=groups.num_samples) if groups.can_judge(group)))
    return [group in chosen for group in groups.of_items]


def check_splittable(items: Sequence[SplitItem], by: SplitBy) -> None:
    """Raise DatasetError if these clips form a single group: known before anything is decoded."""
    groups = _Groups(items, decide_group(items, by), _always)
    if not groups.hold_two(groups.numbers):
        raise DatasetError(_too_few(items, decide_group(items, by), groups.numbers))


class _Groups:
    """The groups of clips, by number, that must not be divided; which of them can be judged is found out when asked."""

    def __init__(self, items: Sequence[SplitItem], by: Group, can_judge: Callable[[int], bool]) -> None:
        self.of_items = _connect(items, by)
        self._members: dict[int, list[int]] = defaultdict(list)
        for index, group in enumerate(self.of_items):
            self._members[group].append(index)
        self._items = items
        self.can_judge = cache(lambda group: any(map(can_judge, self._members[group])))

    @property
    def numbers(self) -> list[int]:
        """The number of each group."""
        return list(self._members)

    def name(self, group: int) -> str:
        """The first of its recordings."""
        return min(self._items[index].recording for index in self._members[group])

    def num_samples(self, group: int) -> int:
        """All of its samples."""
        return sum(self._items[index].num_samples for index in self._members[group])

    def hold_two(self, groups: Sequence[int]) -> bool:
        """Whether two of these can be judged."""
        return len(list(islice(filter(self.can_judge, groups), 2))) == 2  # noqa: PLR2004 - two splits

    def is_one_left(self, order: Sequence[int], chosen: set[int]) -> bool:
        """Whether a group that can be judged is not chosen."""
        return any(group not in chosen and self.can_judge(group) for group in reversed(order))


def _connect(items: Sequence[SplitItem], by: Group) -> list[int]:
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


def _too_few(items: Sequence[SplitItem], by: Group, groups: Sequence[int]) -> str:
    """Why one split would be empty, and what to do."""
    recordings = {item.recording for item in items}
    speakers = {item.speaker for item in items} - {None}
    if len(groups) > 1:
        return (
            f"the validation split would be empty: fewer than two of {len(groups)} {by}s hold a clip whose loss tells "
            "anything (of at least 0.2 s, in which something changes). Listen to them: a dead microphone, a test tone?"
            + (" Or hold out recordings: --set prepare.split_by=recording" if by == "speaker" else "")
        )
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


FLATTERS = "the scores then flatter: they tell in part how well these voices and rooms are remembered"


def tell_of_voices(items: Sequence[SplitItem], by: Group, held_out: Sequence[bool]) -> Iterator[str]:
    """Tell what the scores of this split flatter: voices that may be in both, or are."""
    speakers = {item.speaker for item in items} - {None}
    recordings = {item.recording for item in items}
    unnamed = {item.recording for item in items if item.speaker is None}
    if not speakers:
        yield (
            f"no recording says who speaks, so recordings are held out, and voices may be in both splits; {FLATTERS}. "
            "Name speakers: --speaker-from of `invoke manifest`"
        )
        return
    if by == "recording":
        pairs = [(item.speaker, out) for item, out in zip(items, held_out, strict=True)]
        sides = [{speaker for speaker, out in pairs if out is side} for side in (False, True)]
        both = sorted(name for name in sides[0] & sides[1] if name is not None)
        if len(speakers) == 1:
            yield f'"{next(iter(speakers))}" is the only speaker named, so recordings are held out; {FLATTERS}'
        elif both:
            yield f"recordings are held out, and {len(both)} of {len(speakers)} speakers are in both splits; {FLATTERS}"
    if unnamed:
        yield (
            f"{len(unnamed)} of {len(recordings)} recordings do not say who speaks: their voices may be in both splits"
        )
