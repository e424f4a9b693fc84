"""What was found: languages and speakers between the target's yardsticks, what was taken, and what is to be said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Reading = Literal["near", "less near", "far", "not known"]
NEAR, FAR = 0.75, 0.55
"""Nearness from which on speech is called near, and below which it is called far. Measured with a base of 5.9 M
parameters, two to ten minutes of each: Kinyarwanda, Swahili and Luganda are at 0.59 to 0.85 of each other, synthetic
speech at 0.27 to 0.49, chords at -0.11 to 0.12."""
LITTLE_MINUTES = 10.0
"""Of the target: less says little."""


@dataclass(frozen=True)
class Language:
    """Speech of one language in the pools, and what was taken of it. `nearness`: 1 as the target's other half."""

    name: str
    hours: float
    clips: int
    similarity: float | None
    low: float | None
    high: float | None
    nearness: float | None
    reading: Reading
    hours_chosen: float


@dataclass(frozen=True)
class DonorSpeaker:
    """A speaker of the pools: the mean similarity of the clips, and what was taken."""

    name: str
    language: str
    hours: float
    similarity: float
    hours_chosen: float


@dataclass(frozen=True)
class Donors:
    """What `invoke donors` found and wrote.

    `own`, `shuffled`: the similarity of the target's other half, as it is and with its units in random order;
    `own_clips`: of its clips, on the mean, to be held beside speakers. `halves`: what the target was halved by.
    """

    output_dir: Path
    target: str
    base: str
    heard_as: str
    num_units: int
    minutes_heard: float
    halves: str
    own: float
    own_low: float | None
    own_high: float | None
    shuffled: float
    own_clips: float | None
    tells: bool
    languages: tuple[Language, ...]
    speakers: tuple[DonorSpeaker, ...]
    hours_asked: float
    hours_there: float
    hours_chosen: float
    clips_chosen: int
    max_speaker_share: float
    warnings: tuple[str, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)
    """That of the dataset, as `prepare` writes it."""


def reading_of(nearness: float | None) -> Reading:
    """What a nearness is called."""
    if nearness is None:
        return "not known"
    return "near" if nearness >= NEAR else "less near" if nearness >= FAR else "far"


def tell(
    languages: Sequence[Language],
    *,
    tells: bool,
    by_model: bool,
    own: float,
    shuffled: float,
    minutes_heard: float,
    hours: tuple[float, float, float],
    max_speaker_share: float,
) -> Iterator[str]:
    """What is doubtful, in sentences. `hours`: asked for, there, taken."""
    asked, there, taken = hours
    known = [one for one in languages if one.reading != "not known"]
    if not by_model:
        yield (
            "spectra put the pools in order, by voices and microphones, too; how near is near enough, they do not say: "
            "leave --layer out for that"
        )
    elif not tells:
        yield (
            f"with this base the target's other half ({own:.2f}) is hardly nearer than its own units in random order "
            f"({shuffled:.2f}): how near others are cannot be told; take a base that was trained, or hear more"
        )
    elif known and all(one.reading == "far" for one in known):
        best = max(known, key=lambda one: one.nearness or 0.0)
        yield (
            f"none of the pool is near the target: the nearest, {best.name}, is {best.nearness:.2f} of the way from "
            "shuffled units to the target's own speech; a dissimilar donor gives nothing (San et al., 2024)"
        )
    for one in languages:
        if one.reading == "far" and one.hours_chosen > 0 and not all(other.reading == "far" for other in known):
            yield f"{one.hours_chosen:.2f} h are of {one.name}, which is far as a whole; no nearer clips were left"
    if minutes_heard < LITTLE_MINUTES:
        yield f"{minutes_heard:.1f} min of the target are little to compare with; {LITTLE_MINUTES:g} and more tell more"
    if asked > there:
        yield f"--hours {asked:g} is more than there is: the pools have {there:.2f} h, of which {taken:.2f} h are taken"
    elif taken < asked:
        yield (
            f"{taken:.3g} of {asked:g} h are taken, though there are {there:.3g}: one speaker, or recording, gives "
            f"{max_speaker_share:.0%} of the hours at most; raise --max-speaker-share, or add speakers"
        )
