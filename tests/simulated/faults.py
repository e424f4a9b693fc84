"""The faults of a simulation: how often each comes, how long it lasts, where that is from; and those of a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np

MINUTE, HOUR = 60.0, 3600.0

STEP_SEC = 8.0
"""Of 4 min of audio. Measured of XLS-R-300M: 0.23 s on an H200, 229 s on two cores (docs/measurements.md). Assumed of a
laptop's GPU: 30 audio s/s."""
STEP_SPREAD = 0.25
SAVE_SEC = 30.0
"""3.5 GiB (docs/what-fits.md), written and read again; assumed of an SSD: 0.25 GB/s."""
START_SEC = 60.0
"""Until a run has imported, read its checkpoint and built its model: assumed."""
VALIDATION_SEC = 3.0
"""Of a micro-batch: assumed."""
GRACE_SEC = 120.0
"""From SIGTERM to SIGKILL: `sbatch --signal=TERM@120`, as docs/training.md has it; 120 s on AWS's spot machines."""


@dataclass(frozen=True)
class Rate:
    """How often a fault comes (mean seconds apart), how long it lasts (seconds, from and to), where that is from."""

    apart_sec: float
    lasts: tuple[float, float]
    source: str


RATES = {
    "pre-emption": Rate(30 * MINUTE, (2 * MINUTE, 10 * MINUTE), "asked for; then as long in the queue"),
    "full disk": Rate(12 * HOUR, (3 * MINUTE, 40 * MINUTE), "assumed: somebody else fills it, and is told"),
    "hang": Rate(6 * HOUR, (1 * MINUTE, 28 * MINUTE), "assumed: a share that wakes, is mounted anew, or is away"),
    "sleep": Rate(24 * HOUR, (10 * MINUTE, 9 * HOUR), "assumed: a lid, a night"),
}
NAN_APART_STEPS = 700
"""Mean. Assumed; one clip in a thousand that a precision does not bear comes as often."""
NAN_IN_A_ROW = (1, 4)
"""Left out, by `health.max_skipped_updates`; longer ones send the run back, `health.max_rollbacks` times."""
LONG_NAN = 9
QUIET_SHARE = 0.2
"""Of the updates, at the end, in which nobody pre-empts: a process that lives long shows whether its memory grows."""

Ending = Literal["signal", "kill", "kill in a write"]
ENDINGS: tuple[tuple[Ending, float], ...] = (("signal", 0.5), ("kill", 0.35), ("kill in a write", 0.15))
"""Of pre-emptions: assumed. The last comes within one of the next disk calls of the process."""


@dataclass(frozen=True)
class Span:
    """Something that lasts, in simulated seconds."""

    start: float
    end: float

    def holds(self, time: float) -> bool:
        """Whether it is so at a time."""
        return self.start <= time < self.end


@dataclass(frozen=True)
class Faults:
    """All faults of a simulation, in order. Times are simulated seconds.

    `seen`: whether a full disk says that it is full when it is asked; a quota does not. `nan`: by step, the course (0:
    the first, 1: after going back once) in which it gives no numbers, and which of its numbers is none.
    """

    endings: Sequence[tuple[float, Ending]]
    full: Sequence[Span]
    seen: Sequence[bool]
    hangs: Sequence[Span]
    sleeps: Sequence[tuple[float, float]]
    nan: dict[int, tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def draw(cls, num_updates: int, seed: int, *, often: float = 1.0) -> Self:
        """The faults of a seed. `often`: times as often as the rates say, but for pre-emptions: for short forms."""
        draw = np.random.default_rng(seed)
        horizon = 4 * num_updates * STEP_SEC
        kinds, shares = zip(*ENDINGS, strict=True)
        ends = [time for time, _ in _times(draw, RATES["pre-emption"], horizon)]
        full = _spans(draw, RATES["full disk"], horizon, often)
        return cls(
            endings=[(time, kinds[draw.choice(len(kinds), p=shares)]) for time in ends],
            full=full,
            seen=[bool(draw.integers(2)) for _ in full],
            hangs=_spans(draw, RATES["hang"], horizon, often),
            sleeps=list(_times(draw, RATES["sleep"], horizon, often)),
            nan=_draw_nan(draw, num_updates, often),
        )


def _times(draw: np.random.Generator, rate: Rate, horizon: float, often: float = 1.0) -> Sequence[tuple[float, float]]:
    """(When, for how long) of each."""
    found, time = [], 0.0
    while (time := time + draw.exponential(rate.apart_sec / often)) < horizon:
        found.append((time, float(draw.uniform(*rate.lasts))))
    return found


def _spans(draw: np.random.Generator, rate: Rate, horizon: float, often: float) -> Sequence[Span]:
    found: list[Span] = []
    for time, seconds in _times(draw, rate, horizon, often):
        if found and time < found[-1].end:  # one more while it lasts
            found[-1] = Span(found[-1].start, max(found[-1].end, time + seconds))
        else:
            found.append(Span(time, time + seconds))
    return found


def _draw_nan(draw: np.random.Generator, num_updates: int, often: float) -> dict[int, tuple[int, str]]:
    """Bursts, far enough apart that each is judged by itself; two long ones, in the first and the second course."""
    found: dict[int, tuple[int, str]] = {}
    long = {0: round(0.2 * num_updates), 1: round(0.5 * num_updates)}
    step = 60
    while (step := step + 60 + round(draw.exponential(NAN_APART_STEPS / often))) < num_updates - 60:
        if any(abs(step - at) < 120 for at in long.values()):
            continue
        kind = str(draw.choice(["loss", "gradient"]))
        for number in range(draw.integers(*NAN_IN_A_ROW, endpoint=True)):
            found[step + number] = (-1, kind)
    for course, at in long.items():
        for number in range(LONG_NAN):
            found[at + number] = (course, "loss")
    return found
