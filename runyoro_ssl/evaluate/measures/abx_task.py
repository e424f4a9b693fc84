"""Which phones ABX compares: cells of A, B and X, bounded in size, the same for every subject and layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from runyoro_ssl.evaluate.measures.not_measured import NotMeasured
from runyoro_ssl.evaluate.measures.segments import Segments

AbxSpeakers = Literal["within", "across"]
AbxContext = Literal["any", "within"]
MAX_ITEMS, MAX_SPEAKERS = 10, 5
"""As in ZeroSpeech 2021."""
Items = Mapping[tuple[int, int], Mapping[int, np.ndarray]]
"""Chosen segments, by (speaker, context) and by phone."""


@dataclass(frozen=True)
class AbxBlock:
    """All cells with the same A and X: each other phone of the table is the B of one.

    `a` and `x` are stretches of the columns and of the rows of a table; `weights` float64 (columns,) are what a triplet
    with that B adds to the whole, 0 for A's own phone.
    """

    a: slice
    x: slice
    weights: np.ndarray


@dataclass(frozen=True)
class AbxTable:
    """Segments whose distances are wanted together: X of one speaker in rows, A and B of one speaker in columns."""

    rows: np.ndarray
    columns: np.ndarray
    blocks: Sequence[AbxBlock]
    is_within: bool
    """Rows are columns: no X is its own A."""


@dataclass(frozen=True)
class AbxTask:
    """Everything of ABX but the features: draw it once, score it for each subject and layer."""

    segments: Segments
    tables: Sequence[AbxTable]
    num_groups: int
    num_pairs: int
    num_cells: int
    num_triplets: int


def draw_task(
    segments: Segments,
    speakers: AbxSpeakers,
    generator: np.random.Generator,
    *,
    num_groups: int,
    context: AbxContext = "any",
    max_items: int | None = MAX_ITEMS,
    max_speakers: int | None = MAX_SPEAKERS,
) -> AbxTask:
    """Draw the triplets to compare: X is of A's phone, and B of another phone by A's speaker.

    `speakers`: X is by the speaker of A and B ("within"), or by another ("across"). `context`: A, B and X stand between
    the same phones ("within"), or anywhere. At most `max_items` segments of a phone of a speaker in a context are
    drawn, once for all cells, and for an A at most `max_speakers` speakers of X, in a random order for each speaker.

    Weights follow ZeroSpeech 2021 (Nguyen et al., 2020, arXiv 2011.11588) and fastabx (Poli et al., 2025, arXiv
    2505.02692): the error is a mean over triplets of a cell, then over cells of the same (A's phone, B's phone, speaker
    of A and B), then over speakers, then over ordered pairs of phones.

    Raises:
        NotMeasured: No cell: one speaker, one phone, or no phone often enough.
    """
    items = _choose(segments, context, max_items, generator)
    if speakers == "across" and len(np.unique(segments.speakers)) < 2:  # noqa: PLR2004 - two speakers
        raise NotMeasured("all phones are by one speaker: phones of another are needed to compare across speakers")
    order = {int(one): generator.permutation(np.unique(segments.speakers)) for one in np.unique(segments.speakers)}
    cells = [cell for key in items for cell in _cells(items, key, speakers, order, max_speakers)]
    if not cells:
        raise NotMeasured(
            "no phone is seen twice by a speaker who says another, too: more minutes with phone labels are needed"
            if speakers == "within"
            else "no phone is shared by two speakers of whom one says another, too: more labelled minutes are needed"
        )
    shares = _shares(cells)
    tables = _tables(items, cells, shares, is_within=speakers == "within")
    pairs = {(cell.phone, other) for cell in cells for other in cell.others}
    sizes = [_num_triplets(items, cell, other) for cell in cells for other in cell.others]
    return AbxTask(segments, tables, num_groups, len(pairs), len(sizes), sum(sizes))


@dataclass(frozen=True)
class _Cells:
    """The cells of one A and one X, by phones of B."""

    key: tuple[int, int]
    phone: int
    others: tuple[int, ...]
    x_speaker: int

    @property
    def x_key(self) -> tuple[int, int]:
        return self.x_speaker, self.key[1]


def _choose(segments: Segments, context: AbxContext, max_items: int | None, generator: np.random.Generator) -> Items:
    """Segments by (speaker, context), and by phone, at most so many of each, in order."""
    found: defaultdict[tuple[int, int], defaultdict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    contexts = segments.contexts if context == "within" else np.zeros_like(segments.contexts)
    for index, (speaker, around, phone) in enumerate(
        zip(segments.speakers.tolist(), contexts.tolist(), segments.phones.tolist(), strict=True)
    ):
        found[speaker, around][phone].append(index)
    return {
        key: {phone: _some(found[key][phone], max_items, generator) for phone in sorted(found[key])}
        for key in sorted(found)
    }


def _some(rows: list[int], most: int | None, generator: np.random.Generator) -> np.ndarray:
    if most is None or len(rows) <= most:
        return np.array(rows)
    return np.sort(generator.choice(rows, most, replace=False))


def _cells(
    items: Items,
    key: tuple[int, int],
    speakers: AbxSpeakers,
    order: Mapping[int, np.ndarray],
    max_speakers: int | None,
) -> Iterator[_Cells]:
    """The cells whose A and B are by this speaker in this context."""
    speaker, around = key
    for phone, chosen in items[key].items():
        others = tuple(other for other in items[key] if other != phone)
        if not others:
            continue
        if speakers == "within":
            if len(chosen) > 1:
                yield _Cells(key, phone, others, speaker)
            continue
        sayers = [int(one) for one in order[speaker] if one != speaker and phone in items.get((int(one), around), {})]
        for one in sayers[:max_speakers]:
            yield _Cells(key, phone, others, one)


def _num_triplets(items: Items, cell: _Cells, other: int) -> int:
    num_a, num_b = len(items[cell.key][cell.phone]), len(items[cell.key][other])
    is_within = cell.x_speaker == cell.key[0]
    return num_a * num_b * (num_a - 1 if is_within else len(items[cell.x_key][cell.phone]))


def _shares(cells: Sequence[_Cells]) -> dict[tuple[int, int, int], float]:
    """What a cell of (A's phone, B's phone, speaker) adds to the whole: means of means of means."""
    by_speaker: defaultdict[tuple[int, int, int], int] = defaultdict(int)
    for cell in cells:
        for other in cell.others:
            by_speaker[cell.phone, other, cell.key[0]] += 1
    by_pair: defaultdict[tuple[int, int], int] = defaultdict(int)
    for phone, other, _ in by_speaker:
        by_pair[phone, other] += 1
    return {
        (phone, other, speaker): 1.0 / (count * by_pair[phone, other] * len(by_pair))
        for (phone, other, speaker), count in by_speaker.items()
    }


def _tables(
    items: Items, cells: Sequence[_Cells], shares: Mapping[tuple[int, int, int], float], *, is_within: bool
) -> list[AbxTable]:
    """Cells gathered by the speakers and the context of their rows and columns."""
    together: defaultdict[tuple[tuple[int, int], tuple[int, int]], list[_Cells]] = defaultdict(list)
    for cell in cells:
        together[cell.key, cell.x_key].append(cell)
    tables = []
    for (key, x_key), members in together.items():
        columns, places = _stretches(items[key], items[key])
        rows, x_places = (columns, places) if is_within else _stretches(items[x_key], {one.phone for one in members})
        blocks = []
        for cell in members:
            weights = np.zeros(len(columns))
            for other in cell.others:
                share = shares[cell.phone, other, key[0]]
                weights[places[other]] = share / _num_triplets(items, cell, other)
            blocks.append(AbxBlock(places[cell.phone], x_places[cell.phone], weights))
        tables.append(AbxTable(rows, columns, blocks, is_within))
    return tables


def _stretches(
    by_phone: Mapping[int, np.ndarray], wanted: Mapping[int, object] | set[int]
) -> tuple[np.ndarray, dict[int, slice]]:
    """Segments of these phones behind each other, and where each phone's are."""
    parts, places, end = [], {}, 0
    for phone, chosen in by_phone.items():
        if phone in wanted:
            parts.append(chosen)
            places[phone] = slice(end, end + len(chosen))
            end += len(chosen)
    return np.concatenate(parts), places
