"""Cutting of recordings into clips: at pauses, where voice activity tells them, or into fixed lengths."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.audio.blocks import SampleQueue
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.audio.vad import VAD_RATE, WINDOW, WINDOW_SEC
from runyoro_ssl.errors import AudioError
from runyoro_ssl.prepare.clips.speech import SpeechTrack

MIN_SPEECH_SEC = 0.5
"""Less speech than this, between long pauses, is as likely a cough or a drum, and left out."""
QUIET_SEC = 0.1
"""Over this long the level is averaged when the quietest point of speech without pauses is looked for."""
EARLIEST_CUT = 0.6
"""Such a point lies in this share of the longest clip, or later: clips stay long."""

Bounds = tuple[int, int]


@dataclass(frozen=True)
class PauseSettings:
    """The settings of cutting at pauses, in seconds. Defaults and meanings: `PrepareConfig`."""

    min_duration_sec: float
    max_duration_sec: float
    vad_threshold: float
    speech_pad_sec: float
    max_pause_sec: float


@dataclass(frozen=True)
class Cut:
    """A part of a recording: float32 (T,) from sample `start`. `speech_share` is None where it was not measured."""

    start: int
    waveform: np.ndarray
    speech_share: float | None = None


def cut_evenly(num_samples: int, max_samples: int) -> list[Bounds]:
    """Cut a length into the fewest equal pieces of at most `max_samples`, (start, stop); together they are the whole.

    What is longer than the maximum gives pieces longer than half of it.
    """
    num_pieces = max(1, -(-num_samples // max_samples))
    edges = [round(index * num_samples / num_pieces) for index in range(num_pieces + 1)]
    return list(itertools.pairwise(edges))


def cut_stream(blocks: Iterable[np.ndarray], max_samples: int) -> Iterator[Cut]:
    """Cut a recording of unknown length into `max_samples` each, the last two of equal length; nothing is left out.

    At most two cuts and a block stand in memory.
    """
    waiting = SampleQueue()
    start = 0
    for block in blocks:
        waiting.add(block)
        while waiting.num_samples >= 2 * max_samples:
            yield Cut(start, waiting.take(max_samples))
            start += max_samples
    rest = waiting.take(waiting.num_samples)
    for first, last in cut_evenly(len(rest), max_samples) if len(rest) else []:
        yield Cut(start + first, rest[first:last])


def cut_at_pauses(track: SpeechTrack, settings: PauseSettings) -> list[Bounds]:
    """Find the clips, (start, stop) in samples, that hold the speech of a recording and leave out the rest.

    Regions of speech are joined over pauses up to `max_pause_sec`. What then is too long is cut at its longest pause,
    again and again; speech without one, at its quietest point. Then every clip gets `speech_pad_sec` of what lies
    around it, and too short a clip more. Clips do not overlap, and none is longer than the maximum.
    """
    # Half a window may be gained at either end when windows become samples.
    room = settings.max_duration_sec / WINDOW_SEC - 1
    shortest = min(settings.min_duration_sec / WINDOW_SEC, room)
    pad = min(round(settings.speech_pad_sec / WINDOW_SEC), int(room / 4))
    longest = room - 2 * pad
    runs = _join(_speech_regions(track, settings), settings.max_pause_sec / WINDOW_SEC)
    runs = [run for run in runs if sum(stop - start for start, stop in run) * WINDOW_SEC >= MIN_SPEECH_SEC]
    level = _smooth(track.power, round(QUIET_SEC / WINDOW_SEC))
    # Cuts of half the longest can always be had.
    clips = [clip for run in runs for clip in _split(run, min(shortest, longest / 2), longest, level)]
    clips = _lengthen(_pad(clips, pad, len(track.speech)), shortest, room, len(track.speech)) if clips else []
    return [(track.sample(start), track.sample(stop)) for start, stop in clips]


def take_bounds(blocks: Iterable[np.ndarray], bounds: Sequence[Bounds]) -> Iterator[tuple[Bounds, np.ndarray]]:
    """Take the samples of each of `bounds`, which ascend and do not overlap, from a stream; it is read no further.

    Raises:
        AudioError: The stream ends before: the file is no longer what it was when the bounds were found.
    """
    waiting = SampleQueue()
    first_waiting = 0
    todo = iter(blocks)
    for start, stop in bounds:
        first_waiting += waiting.skip(start - first_waiting)
        while first_waiting + waiting.num_samples < stop:
            block = next(todo, None)
            if block is None:
                raise AudioError(Reason.CHANGED, "it was longer before")
            waiting.add(block)
            first_waiting += waiting.skip(start - first_waiting)
        yield (start, stop), waiting.take(stop - start)
        first_waiting = stop


def _speech_regions(track: SpeechTrack, settings: PauseSettings) -> list[Bounds]:
    """Regions of speech, in windows."""
    from silero_vad import get_speech_timestamps_from_probs

    found = get_speech_timestamps_from_probs(
        track.speech.tolist(),
        VAD_RATE,
        threshold=settings.vad_threshold,
        speech_pad_ms=0,
    )
    return [(region["start"] // WINDOW, min(len(track.speech), -(-region["end"] // WINDOW))) for region in found]


def _join(regions: Sequence[Bounds], max_pause: float) -> list[list[Bounds]]:
    """Regions in runs, without a long pause in any."""
    runs: list[list[Bounds]] = []
    for region in regions:
        if runs and region[0] - runs[-1][-1][1] <= max_pause:
            runs[-1].append(region)
        else:
            runs.append([region])
    return runs


def _split(run: list[Bounds], shortest: float, longest: float, level: np.ndarray) -> Iterator[Bounds]:
    """A run of regions as clips no longer than `longest`, in order."""
    waiting = [run]
    while waiting:
        part = waiting.pop()
        start, stop = part[0][0], part[-1][1]
        if stop - start <= longest:
            yield start, stop
            continue
        # (pause, how near to the middle, index of the region after it), where neither side becomes too short
        pauses = [
            (after[0] - before[1], -abs(after[0] + before[1] - start - stop), index)
            for index, (before, after) in enumerate(itertools.pairwise(part), start=1)
            if before[1] - start >= shortest and stop - after[0] >= shortest
        ]
        if pauses:
            _, _, index = max(pauses)
            waiting += [part[index:], part[:index]]
        else:
            waiting += reversed(_cut_between(part, _quietest(start, stop, shortest, longest, level)))


def _quietest(start: int, stop: int, shortest: float, longest: float, level: np.ndarray) -> int:
    """The window at which the first piece of speech without pauses best ends."""
    latest = min(start + int(longest), stop - int(shortest))
    earliest = min(latest, start + int(EARLIEST_CUT * longest))
    return earliest + int(np.argmin(level[earliest : latest + 1]))


def _cut_between(part: list[Bounds], at: int) -> list[list[Bounds]]:
    """The regions before and after a window; the one it falls into is cut."""
    before = [(first, min(last, at)) for first, last in part if first < at]
    after = [(max(first, at), last) for first, last in part if last > at]
    return [before, after]


def _pad(clips: Sequence[Bounds], pad: int, num_windows: int) -> list[Bounds]:
    """Clips with a margin, at most to the middle of what lies between two."""
    middles = [(before[1] + after[0]) // 2 for before, after in itertools.pairwise(clips)]
    return [
        (max(floor, start - pad), min(ceiling, stop + pad))
        for (start, stop), floor, ceiling in zip(clips, [0, *middles], [*middles, num_windows], strict=True)
    ]


def _lengthen(clips: Sequence[Bounds], shortest: float, room: float, num_windows: int) -> list[Bounds]:
    """Clips that are too short, with as much as they need of what lies around them and belongs to no other."""
    target = min(int(np.ceil(shortest)) + 1, int(room))
    made: list[Bounds] = []
    for index, (start, stop) in enumerate(clips):
        floor = made[-1][1] if made else 0
        ceiling = clips[index + 1][0] if index + 1 < len(clips) else num_windows
        missing = target - (stop - start)
        if missing > 0:
            start = max(floor, min(start - missing // 2, ceiling - target))  # noqa: PLW2901 - the same clip, longer
            stop = min(ceiling, max(stop, start + target))  # noqa: PLW2901
        made.append((start, stop))
    return made


def _smooth(values: np.ndarray, size: int) -> np.ndarray:
    return np.convolve(values, np.ones(size) / size, mode="same") if len(values) else values
