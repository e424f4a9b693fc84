"""Phones as stretches of frames: what ABX compares, and what a probe learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.evaluate.labels.frames import frames_of

NEXT_TO_SEC = 0.02
"""Phones with a longer gap between them are no neighbours: there is a silence."""


@dataclass(frozen=True)
class Segments:
    """Phones of clips, int64 (N,) each: which clip, first frame, number of frames (1 or more), and by what they differ.

    `phones` index `symbols`; `contexts` stand for pairs of (previous, next) phone; `groups` are those of the bootstrap.
    """

    clips: np.ndarray
    first_frames: np.ndarray
    num_frames: np.ndarray
    phones: np.ndarray
    contexts: np.ndarray
    speakers: np.ndarray
    groups: np.ndarray
    symbols: tuple[str, ...]
    left_out: Mapping[str, int]
    """Phones that are not in it, by reason."""

    def __len__(self) -> int:
        return len(self.phones)


def cut_segments(
    phones: Sequence[Sequence[Phone] | None],
    num_frames: Sequence[int],
    speakers: Sequence[str],
    groups: Sequence[int],
) -> Segments:
    """Cut the phones of clips into segments: the frames whose centre lies in each. All arguments are by clip.

    Left out, and counted: phones without a frame, and symbols that are seen once. A neighbour that is left out is still
    the context of the other.
    """
    rows: list[tuple[int, int, int, str, tuple[str, str]]] = []
    num_brief = 0
    for clip, (spoken, frames) in enumerate(zip(phones, num_frames, strict=True)):
        for index, phone in enumerate(spoken or ()):
            first, end = frames_of(phone, frames)
            num_brief += end == first
            if end > first:
                rows.append((clip, first, end - first, phone.symbol, _context(spoken or (), index)))
    counts = Counter(symbol for *_, symbol, _ in rows)
    kept = [row for row in rows if counts[row[3]] > 1]
    symbols = sorted({row[3] for row in kept})
    places = {symbol: index for index, symbol in enumerate(symbols)}
    contexts = {pair: index for index, pair in enumerate(sorted({row[4] for row in kept}))}
    names = {name: index for index, name in enumerate(sorted(set(speakers)))}
    clips = np.array([row[0] for row in kept], dtype=np.int64)
    left_out = {"no frame in it": num_brief, "a phone that is seen once": len(rows) - len(kept)}
    return Segments(
        clips=clips,
        first_frames=np.array([row[1] for row in kept], dtype=np.int64),
        num_frames=np.array([row[2] for row in kept], dtype=np.int64),
        phones=np.array([places[row[3]] for row in kept], dtype=np.int64),
        contexts=np.array([contexts[row[4]] for row in kept], dtype=np.int64),
        speakers=np.array([names[speakers[row[0]]] for row in kept], dtype=np.int64),
        groups=np.asarray(groups, dtype=np.int64)[clips],
        symbols=tuple(symbols),
        left_out={why: count for why, count in left_out.items() if count},
    )


def _context(spoken: Sequence[Phone], index: int) -> tuple[str, str]:
    """The phones before and after; "" for silence, or an edge of the clip."""
    phone = spoken[index]
    before = spoken[index - 1] if index else None
    after = spoken[index + 1] if index + 1 < len(spoken) else None
    return (
        before.symbol if before and phone.start_sec - before.end_sec <= NEXT_TO_SEC else "",
        after.symbol if after and after.start_sec - phone.end_sec <= NEXT_TO_SEC else "",
    )
