"""Dropped audio to listen to: some of it for each reason, decoded once more from where it is."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from runyoro_ssl.audio.decode import stream
from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.errors import AudioError
from runyoro_ssl.page.pictures import audio_uri
from runyoro_ssl.prepare.accounts import Drop

NUM_OF_EACH = 10
"""Stretches that are shown for one reason."""
MAX_PLAYED_SEC = 15.0
MAX_TOTAL_SEC = 300.0
"""Of all players together: 2.6 MB, which a core encodes in 2 s. With many reasons each player is shorter."""
MAX_SKIPPED_BLOCKS = 20
"""Blocks, about 8 minutes, that may be decoded for nothing on the way to a stretch, in formats without jumps."""
NUM_THREADS = 4
NOT_PLAYED = frozenset({Reason.PROCESS_CRASHED, Reason.TIME_LIMIT, Reason.OUT_OF_MEMORY})
"""What ended a worker, or kept it, is not tried here."""


@dataclass(frozen=True)
class Heard:
    """A dropped stretch, and its first `played_sec` as a data URI; or `silent_because`, why it is not played."""

    drop: Drop
    played_sec: float = 0.0
    audio: str = ""
    silent_because: str = ""


def choose_drops(drops: Sequence[Drop]) -> dict[str, list[Drop]]:
    """Choose up to `NUM_OF_EACH` of each reason, the one with most audio first.

    They are drawn by lot, by the hash of their places, and from as many recordings as there are: the second of a
    recording only after the first of all others.
    """
    of_reason: dict[str, list[Drop]] = defaultdict(list)
    samples: Counter[str] = Counter()
    for drop in drops:
        of_reason[drop.reason].append(drop)
        samples[drop.reason] += drop.num_samples
    return {reason: _draw(of_reason[reason]) for reason, _ in samples.most_common()}


def _draw(drops: Iterable[Drop]) -> list[Drop]:
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int, Drop]] = []
    for place, drop in enumerate(sorted(drops, key=_lot)):
        ranked.append((seen[drop.recording], place, drop))
        seen[drop.recording] += 1
    chosen = [drop for _, _, drop in sorted(ranked, key=lambda one: one[:2])[:NUM_OF_EACH]]
    return sorted(chosen, key=lambda drop: (drop.source, drop.offset_sec))


def _lot(drop: Drop) -> bytes:
    return hashlib.sha256(f"{drop.source}\0{drop.offset_sec}\0{drop.num_samples}".encode()).digest()


def hear_drops(drops: Sequence[Drop], path_of: Callable[[str], Path], sampling_rate: int) -> dict[str, list[Heard]]:
    """Decode what is to be heard of the chosen drops, by reason; `path_of(source)` is the file.

    A file that is gone, or does not decode, is said and not played.
    """
    chosen = choose_drops(drops)
    every = [drop for part in chosen.values() for drop in part]
    seconds = min(MAX_PLAYED_SEC, MAX_TOTAL_SEC / max(1, len(every)))
    hear = partial(_hear, path_of=path_of, seconds=seconds, sampling_rate=sampling_rate)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        heard = iter(list(pool.map(hear, every)))
    return {reason: [next(heard) for _ in part] for reason, part in chosen.items()}


def _hear(drop: Drop, *, path_of: Callable[[str], Path], seconds: float, sampling_rate: int) -> Heard:
    if drop.reason in NOT_PLAYED:
        return Heard(drop, silent_because="it ended or kept what read it")
    wanted = min(drop.num_samples, round(seconds * sampling_rate))
    if wanted == 0:
        return Heard(drop, silent_because="nothing of it decodes")
    blocks: list[np.ndarray] = []
    because = ""
    try:
        skipped = 0
        for block in stream(
            path_of(drop.source),
            sample_rate=sampling_rate,
            offset_sec=drop.offset_sec,
            duration_sec=wanted / sampling_rate,
        ):
            blocks.append(block)
            skipped += len(block) == 0
            if skipped > MAX_SKIPPED_BLOCKS:
                because = "it is deep in a file that can only be read from its start"
                break
    except (AudioError, OSError) as error:
        because = str(error)
    waveform = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if len(waveform) == 0:
        return Heard(drop, silent_because=because or "nothing of it decodes")
    return Heard(drop, len(waveform) / sampling_rate, audio_uri(waveform, sampling_rate))
