"""What a split sounds like: how many of its clips can be judged, and why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runyoro_ssl.dataset.read import Clips
from runyoro_ssl.errors import DatasetError
from runyoro_ssl.evaluate.judged import MIN_CLIP_SEC, why_not_judged

NUM_HEARD = 200
HEARD_SEC = 15.0
"""So many clips, and so much of each, are heard before a run: it takes 2 s at most."""
SPEECH_ONLY = """--set 'plugins.filters=["duration", "silence", "clipping", "speech", "duplicates"]'"""
UNREADABLE = "it cannot be read"


@dataclass(frozen=True)
class Hearing:
    """Rows that were heard, evenly spread; those of them that can be judged; and why the others cannot, by row."""

    rows: tuple[int, ...]
    good: tuple[int, ...]
    bad: dict[int, str]

    def reasons(self) -> list[str]:
        """Why, with counts, the most frequent first."""
        return [f"{why}: {count}" for why, count in Counter(self.bad.values()).most_common()]


def hear(clips: Clips, rows: Sequence[int], sampling_rate: int) -> Hearing:
    """Hear up to `NUM_HEARD` of these rows, evenly spread, by their first seconds."""
    chosen = rows[:: -(-len(rows) // NUM_HEARD) or 1]
    found = {row: _why_not(clips, row, sampling_rate) for row in chosen}
    return Hearing(
        tuple(chosen),
        tuple(row for row, why in found.items() if why is None),
        {row: why for row, why in found.items() if why is not None},
    )


def _why_not(clips: Clips, row: int, sampling_rate: int) -> str | None:
    try:
        return why_not_judged(clips.waveform(row, 0, round(HEARD_SEC * sampling_rate)), sampling_rate)
    except DatasetError:
        return UNREADABLE


def remedy(*, short: bool, alike: bool) -> str:
    """How to prepare without clips shorter than a mask, and without those in which nothing changes.

    The silence filter finds silence and dead microphones, the speech filter tones as well.
    """
    options = [f"--min-duration-sec {MIN_CLIP_SEC + 0.005:g}"] * short + [SPEECH_ONLY] * alike
    return f"leave them out: {' '.join(['`invoke prepare --overwrite', *options])}`, with your other options"
