"""What was measured and chosen, in hours and words: by language, and by speaker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from runyoro_ssl.donors.found import Donors, DonorSpeaker, Language, reading_of, tell
from runyoro_ssl.donors.measure import Similarities
from runyoro_ssl.donors.pools import Candidates
from runyoro_ssl.donors.request import LOG_MEL, DonorsRequest
from runyoro_ssl.evaluate.heard.clips import HeldOut

MAX_SPEAKERS = 50
"""Speakers that are told of, the nearest."""


@dataclass(frozen=True)
class Selection:
    """The clips of the pools, how near they are, and which are taken: bool (N,). `rate`: Hz."""

    candidates: Candidates
    measured: Similarities
    chosen: np.ndarray
    rate: int

    @cached_property
    def hours(self) -> np.ndarray:
        """Of each clip: float64 (N,)."""
        return np.asarray(self.candidates.num_samples / self.rate / 3600)


def describe(request: DonorsRequest, heard_as: str, heard: HeldOut, selection: Selection) -> Donors:
    """Say what was found. `heard` are the clips of the target, `heard_as` a layer of the model, or spectra."""
    hours, sticks = selection.hours, selection.measured.yardsticks
    by_model = request.layer != LOG_MEL
    languages = _languages(selection, by_model=by_model)
    there = float(hours[selection.candidates.is_first()].sum())
    taken = float(hours[selection.chosen].sum())
    warnings = tell(
        languages,
        tells=sticks.tell,
        by_model=by_model,
        own=sticks.own.similarity,
        shuffled=sticks.shuffled,
        minutes_heard=heard.seconds / 60,
        hours=(request.hours, there, taken),
        max_speaker_share=request.max_speaker_share,
    )
    return Donors(
        output_dir=request.output_dir,
        target=request.target.resolve().name,
        base=request.base_name,
        heard_as=heard_as,
        num_units=request.num_units,
        minutes_heard=heard.seconds / 60,
        halves=heard.kind,
        own=sticks.own.similarity,
        own_low=sticks.own.low,
        own_high=sticks.own.high,
        shuffled=sticks.shuffled,
        own_clips=sticks.own_clips,
        tells=sticks.tell,
        languages=languages,
        speakers=_speakers(selection),
        hours_asked=request.hours,
        hours_there=there,
        hours_chosen=taken,
        clips_chosen=int(selection.chosen.sum()),
        max_speaker_share=request.max_speaker_share,
        warnings=tuple(warnings),
    )


def _languages(selection: Selection, *, by_model: bool) -> tuple[Language, ...]:
    """The languages of the pools, the nearest first."""
    candidates, measured = selection.candidates, selection.measured
    found = []
    for number, (name, near) in enumerate(zip(candidates.languages, measured.languages, strict=True)):
        here = candidates.language == number
        is_known = bool(np.isfinite(near.similarity))
        nearness = measured.yardsticks.nearness(near.similarity) if is_known else None
        language = Language(
            name=name,
            hours=float(selection.hours[here].sum()),
            clips=int(here.sum()),
            similarity=near.similarity if is_known else None,
            low=near.low,
            high=near.high,
            nearness=nearness,
            reading=reading_of(nearness) if by_model else "not known",
            hours_chosen=float(selection.hours[here & selection.chosen].sum()),
        )
        found.append(language)
    return tuple(sorted(found, key=lambda one: -(one.similarity or 0.0)))


def _speakers(selection: Selection) -> tuple[DonorSpeaker, ...]:
    """The nearest speakers: the mean over their clips that can be compared, longer ones the more."""
    candidates, similarity, hours = selection.candidates, selection.measured.clips, selection.hours
    is_known = candidates.speaker >= 0
    told, taken = np.isfinite(similarity) & is_known, selection.chosen & is_known
    size = len(candidates.speakers)

    def by_speaker(which: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(candidates.speaker[which], values[which], minlength=size)

    weights = by_speaker(told, hours)
    means = np.full(size, -np.inf)
    np.divide(by_speaker(told, hours * np.nan_to_num(similarity)), weights, out=means, where=weights > 0)
    language = np.zeros(size, np.int64)
    language[candidates.speaker[told]] = candidates.language[told]
    whole, given = by_speaker(is_known, hours), by_speaker(taken, hours)
    nearest = [number for number in np.argsort(-means, kind="stable")[:MAX_SPEAKERS].tolist() if weights[number] > 0]
    return tuple(
        DonorSpeaker(
            candidates.speakers[number],
            candidates.languages[language[number]],
            float(whole[number]),
            float(means[number]),
            float(given[number]),
        )
        for number in nearest
    )
