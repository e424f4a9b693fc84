"""What measures say one by one: how much better, in which words, and whom it speaks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from runyoro_ssl.evaluate.record import ADAPTED, BASE, ModelMeasure


class HowMuchBetter(NamedTuple):
    """How much better the adapted model is by a measure."""

    least: float
    about: float
    most: float


@dataclass
class Judging:
    """What is found, one after the other."""

    measures: dict[str, ModelMeasure]
    reasons: list[tuple[int, str]] = field(default_factory=list)
    """What each speaks for: 1, the adapted model; -1, the base; 0, neither."""

    def gain(self, key: str) -> HowMuchBetter | None:
        """That of a measure; None: it was not measured, has no interval, or neither way is better."""
        measure = self.measures.get(key)
        if measure is None or measure.difference is None or measure.difference_interval is None:
            return None
        low, middle, high = measure.difference_interval.low, measure.difference, measure.difference_interval.high
        return {"higher": HowMuchBetter(low, middle, high), "lower": HowMuchBetter(-high, -middle, -low)}.get(
            measure.better
        )

    def value(self, key: str, subject: str) -> float | None:
        """A measure of a subject."""
        return self.measures[key].values.get(subject) if key in self.measures else None

    def says(self, reason: str, speaks_for: int = 0) -> None:
        """Remember why."""
        self.reasons.append((speaks_for, reason))


def in_points(gain: HowMuchBetter) -> str:
    """A gain of shares: `better by 2.6 points (1.5 to 3.7)`; `from 1.5 points worse to 0.2 better`."""
    least, about, most = (100 * part for part in gain)
    if least > 0:
        return f"better by {about:.1f} points ({least:.1f} to {most:.1f})"
    if most < 0:
        return f"worse by {-about:.1f} points ({-most:.1f} to {-least:.1f})"
    return f"from {-least:.1f} points worse to {most:.1f} better"


def before_and_after(judged: Judging, key: str) -> str:
    """A measure of the base, and of the adapted model, as its unit is shown."""
    measure = judged.measures[key]
    if measure.unit == "%":
        return f"{measure.values[BASE]:.1%} to {measure.values[ADAPTED]:.1%}"
    return f"{measure.values[BASE]:.3g} to {measure.values[ADAPTED]:.3g}"
