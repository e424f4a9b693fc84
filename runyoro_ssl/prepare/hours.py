"""`--max-hours`: whole recordings, drawn evenly over speakers, until so much audio is chosen."""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

ENOUGH = 0.99
"""Share of the hours from which nothing more is looked for."""
ROUNDING_SEC = 1e-3
"""Durations in a manifest are rounded: what was drawn once may be longer by this, and is then drawn again."""

Name = TypeVar("Name", str, str | None)


class Drawing:
    """A drawing of whole recordings: next is always the speaker who has least so far.

    The order of the speakers, and of the recordings of each, is by lot: a hash of the seed and the name, so that it
    stays as it is when the corpus grows. A recording longer than all the hours is passed over; a speaker whose next one
    no longer fits has no further turn. Lengths are told one by one, so that only what may be drawn need be decoded.
    """

    def __init__(self, speakers: Mapping[str, str | None], max_hours: float, seed: int) -> None:
        """Begin a drawing. `speakers` has the speaker of each recording; those of nobody known count as one's."""
        self.max_sec = max_hours * 3600.0 + ROUNDING_SEC
        self.seconds = 0.0
        """What is drawn so far."""
        self.chosen: set[str] = set()
        """The recordings that it is of."""
        self._known: dict[str, float] = {}
        groups: dict[str | None, list[str]] = defaultdict(list)
        for recording, speaker in speakers.items():
            groups[speaker].append(recording)
        self._speakers = [_Speaker(_by_lot(groups[name], seed)) for name in _by_lot(groups, seed)]
        self._of = {name: speaker for speaker in self._speakers for name in speaker.left}
        self._known_sec = 0.0
        self._turns = [(0.0, number) for number in range(len(self._speakers))]

    def wanted(self) -> Iterator[str]:
        """Recordings whose length should be told next, for as long as any may still be drawn."""
        waiting = list(self._turns)
        while waiting and self._turns:
            _, number = heapq.heappop(waiting)
            speaker = self._speakers[number]
            if speaker.unasked:
                speaker.num_awaited += 1
                yield speaker.unasked.popleft()
                mean_sec = self._known_sec / len(self._known) if self._known else 1.0
                heapq.heappush(waiting, (speaker.known_sec + speaker.num_awaited * mean_sec, number))

    def tell(self, recording: str, seconds: float) -> None:
        """Tell the length of a recording, 0 if it cannot be used; and draw as far as enough is known."""
        self._known[recording] = seconds
        self._known_sec += seconds
        speaker = self._of[recording]
        speaker.known_sec += seconds
        speaker.num_awaited -= 1
        while self._turns and self._take_turn(self._turns[0][1]):
            pass

    def _take_turn(self, number: int) -> bool:
        """Let the speaker draw whose turn it is; False if the length of the next recording is not known yet."""
        speaker = self._speakers[number]
        if speaker.left and speaker.left[0] not in self._known:
            return False
        heapq.heappop(self._turns)
        if not speaker.left:
            return True
        recording = speaker.left.popleft()
        seconds = self._known[recording]
        fits = self.seconds + seconds <= self.max_sec
        if fits and seconds > 0:
            self.chosen.add(recording)
            self.seconds += seconds
            speaker.drawn_sec += seconds
        if self.seconds >= ENOUGH * self.max_sec:
            self._turns.clear()
        elif fits or seconds > self.max_sec:
            heapq.heappush(self._turns, (speaker.drawn_sec, number))
        return True


class _Speaker:
    """The recordings of a speaker by lot, and what is known and drawn of them."""

    def __init__(self, recordings: list[str]) -> None:
        self.left = deque(recordings)
        self.unasked = deque(recordings)
        self.num_awaited = 0
        self.known_sec = 0.0
        self.drawn_sec = 0.0


def draw(recordings: Mapping[str, tuple[str | None, float]], max_hours: float, seed: int) -> set[str]:
    """Draw among recordings of which speaker and seconds are known: all, if they are no more than the hours."""
    drawing = Drawing({name: speaker for name, (speaker, _) in recordings.items()}, max_hours, seed)
    if sum(seconds for _, seconds in recordings.values()) <= drawing.max_sec:
        return set(recordings)
    for name, (_, seconds) in recordings.items():
        drawing.tell(name, seconds)
    return drawing.chosen


def nothing_fits(max_hours: float, seconds: Iterable[float]) -> str:
    """What to say when not one recording is as short as the hours that were asked for."""
    shortest = min(seconds, default=0.0) / 3600
    return (
        f"--max-hours is {max_hours:g}, and recordings are drawn whole: the shortest has {shortest:.3g} h; "
        f"raise it to {1.01 * shortest:.3g} at least, or split the recordings"
    )


def _by_lot(names: Iterable[Name], seed: int) -> list[Name]:
    """The names in an order that is drawn once for each seed, whoever else is among them."""
    return sorted(
        names, key=lambda name: hashlib.sha256(f"{seed}\0{name or ''}".encode(errors="surrogatepass")).digest()
    )
