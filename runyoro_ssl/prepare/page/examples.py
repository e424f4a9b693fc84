"""The clips that the page shows: the worst and the most typical."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.prepare.accounts import ClipRecord
from runyoro_ssl.prepare.page.measures import column

NUM_EXAMPLES = 10
MAX_OF_ONE_RECORDING = 3
"""So that one bad recording does not hide the others, as long as there are others."""
WORST_DEVIATION = 4.0
"""Beyond this many standard deviations a clip is not worse still: one measure cannot decide alone."""


@dataclass(frozen=True)
class Fault:
    """A measure whose low (`sign` -1) or high (1) values are bad; differences below `least` do not matter.

    Only a value beyond `limit` is called by the fault's name, however unusual it is in its corpus.
    """

    label: str
    measure: str
    sign: int
    least: float
    limit: float


FAULTS = (
    Fault("low SNR", "snr_db", -1, 3.0, limit=10.0),
    Fault("clipping", "clipped_share", 1, 0.001, limit=0.001),
    Fault("music", "music", 1, 0.1, limit=0.6),
    Fault("narrow bandwidth", "bandwidth_hz", -1, 500.0, limit=4250.0),
    Fault("mains hum", "hum_db", 1, 3.0, limit=20.0),
)
"""The limits are those by which the built-in filters tell a fault from clean speech; under 10 dB, speech is noisy."""


@dataclass(frozen=True)
class Example:
    """A clip to show, by its place among all clips. `faults` names what is bad, and a deviation from usual at least."""

    clip: int
    faults: tuple[str, ...] = ()


def choose_examples(clips: Sequence[ClipRecord]) -> tuple[list[Example], list[Example]]:
    """Choose the worst clips, worst first, and the most typical, nearest first; no clip is in both.

    A clip's badness is the sum, over FAULTS, of its distance from the median on the bad side in standard deviations, at
    most WORST_DEVIATION each. The typical ones have the least distance from the medians of SNR, level, bandwidth and
    duration. A measure that is not known counts as usual. At most half of a small corpus is called worst, and nothing
    that has no fault.
    """
    terms = bad_deviations(clips)
    badness = terms.sum(axis=0)
    by_badness = [int(clip) for clip in np.argsort(-badness, kind="stable") if badness[clip] > 0]
    worst = _spread(by_badness, clips, min(NUM_EXAMPLES, len(clips) // 2))
    rest = np.argsort(_unusual(clips), kind="stable").tolist()
    typical = _spread([clip for clip in rest if clip not in worst], clips, NUM_EXAMPLES)
    return [Example(clip, _named(terms[:, clip], clips[clip])) for clip in worst], [Example(clip) for clip in typical]


def bad_deviations(clips: Sequence[ClipRecord]) -> np.ndarray:
    """Compute how bad each clip is in each of FAULTS: float64 (len(FAULTS), len(clips)), 0 to WORST_DEVIATION."""
    rows = [fault.sign * _deviation(column(clips, fault.measure), fault.least) for fault in FAULTS]
    terms: np.ndarray = np.clip(np.stack(rows), 0.0, WORST_DEVIATION)
    return terms


def _unusual(clips: Sequence[ClipRecord]) -> np.ndarray:
    """Distance from the medians, in standard deviations."""
    rows = [_deviation(column(clips, name), least) for name, least in (("snr_db", 3.0), ("level_dbfs", 3.0))]
    rows.append(_deviation(column(clips, "bandwidth_hz"), 500.0))
    rows.append(_deviation(np.array([clip.num_samples for clip in clips], dtype=np.float64), 1.0))
    distance: np.ndarray = np.abs(np.stack(rows)).sum(axis=0)
    return distance


def _deviation(values: np.ndarray, least: float) -> np.ndarray:
    """Distance from the median in standard deviations, or in units of `least` if that is more; unknown: 0."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(len(values))
    deviation: np.ndarray = np.nan_to_num((values - np.median(known)) / max(float(known.std()), least))
    return deviation


def _spread(order: Sequence[int], clips: Sequence[ClipRecord], count: int) -> list[int]:
    """The first `count`, but no more than MAX_OF_ONE_RECORDING of one recording while there are others."""
    taken = list(_first_of_each(order, clips))[:count]
    chosen = set(taken)
    chosen.update([clip for clip in order if clip not in chosen][: count - len(taken)])
    return [clip for clip in order if clip in chosen]


def _first_of_each(order: Iterable[int], clips: Sequence[ClipRecord]) -> Iterable[int]:
    seen: Counter[str] = Counter()
    for clip in order:
        seen[clips[clip].recording] += 1
        if seen[clips[clip].recording] <= MAX_OF_ONE_RECORDING:
            yield clip


def _named(terms: np.ndarray, clip: ClipRecord) -> tuple[str, ...]:
    """Labels of the faults beyond one deviation and beyond their limits, the worst first."""
    order = [FAULTS[row] for row in np.argsort(-terms, kind="stable") if terms[row] > 1]
    return tuple(
        fault.label for fault in order if fault.sign * clip.measures.get(fault.measure, 0.0) > fault.sign * fault.limit
    )
