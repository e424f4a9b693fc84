"""Units to hear and to see: what a model takes for one sound, and which phones that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.page.amounts import number
from runyoro_ssl.page.pictures import audio_uri, spectrogram_uri

MAX_UNITS = 24
MAX_CLIPS = 6
"""Of a unit."""
MAX_CLIP_SEC = 5.0
"""With these, a page has at most 24 x 6 x 5 s of sound: 5 MB."""
NUM_PHONES = 3
"""Told beside a unit."""
LEAST_SHARE = 0.05
"""Of a unit, that is shown in the table of units and phones."""
MAX_PHONES = 30
NO_PHONE = "no phone"


@dataclass(frozen=True)
class UnitClip:
    """A stretch with what is around, float32 (T,): where it is from, and where in it the unit is."""

    waveform: np.ndarray
    sampling_rate: int
    words: str
    begin_sec: float
    end_sec: float


@dataclass(frozen=True)
class UnitExample:
    """A unit, and where it was heard.

    Attributes:
        unit: Its number.
        words: What is to be said of it, e.g. how often it comes.
        clips: Stretches that were given this unit.
        phones: The phones that it is, with their shares, the most frequent first; "" for none.
    """

    unit: int
    words: str
    clips: Sequence[UnitClip]
    phones: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class ShownClip:
    """A picture as a data URI, where the unit is in it (per cent of its width), and the sound; "" for none."""

    words: str
    seconds: float
    picture: str
    left: float
    width: float
    uri: str


@dataclass(frozen=True)
class ShownUnit:
    """A unit, its phones in words, its clips."""

    name: str
    words: str
    phones: str
    clips: Sequence[ShownClip]


@dataclass(frozen=True)
class UnitPhones:
    """Units (columns) by phones (rows): a number in per cent and the side of a square of 0 to 100; None under 5 %."""

    units: Sequence[int]
    rows: Sequence[tuple[str, Sequence[tuple[str, float] | None]]]


def shown_units(examples: Sequence[UnitExample], *, with_audio: bool) -> list[ShownUnit]:
    """The first MAX_UNITS examples with their first MAX_CLIPS clips. Without audio, the pictures are left."""
    return [
        ShownUnit(
            f"Unit {example.unit}",
            example.words,
            ", ".join(f"{phone or NO_PHONE} {number(100 * share)} %" for phone, share in example.phones[:NUM_PHONES]),
            [_show(clip, with_audio=with_audio) for clip in example.clips[:MAX_CLIPS]],
        )
        for example in examples[:MAX_UNITS]
    ]


def units_by_phones(examples: Sequence[UnitExample]) -> UnitPhones | None:
    """The shares of phones in each unit; a phone stands where the unit does that is it most, no phone at the end.

    None without labels.
    """
    shown = [example for example in examples[:MAX_UNITS] if example.phones]
    if not shown:
        return None
    shares = [dict(example.phones) for example in shown]
    best: dict[str, tuple[int, float]] = {}
    for phone in dict.fromkeys(phone for of in shares for phone in of):
        of_units = [of.get(phone, 0.0) for of in shares]
        most = max(of_units)
        if most >= LEAST_SHARE:
            best[phone] = of_units.index(most), -most
    kept = sorted(best, key=lambda phone: best[phone][1])[:MAX_PHONES]
    order = sorted(kept, key=lambda phone: (not phone, best[phone]))
    rows = [(phone or NO_PHONE, [_cell(of.get(phone, 0.0)) for of in shares]) for phone in order]
    return UnitPhones([example.unit for example in shown], rows)


def _cell(share: float) -> tuple[str, float] | None:
    return (number(100 * share), round(100 * math.sqrt(share), 1)) if share >= LEAST_SHARE else None


def _show(clip: UnitClip, *, with_audio: bool) -> ShownClip:
    rate = clip.sampling_rate
    waveform = clip.waveform[: round(MAX_CLIP_SEC * rate)]
    seconds = max(len(waveform), 1) / rate
    left, right = (100 * min(place / seconds, 1.0) for place in (clip.begin_sec, clip.end_sec))
    sound = audio_uri(waveform, rate) if with_audio else ""
    picture = spectrogram_uri(waveform, rate)
    return ShownClip(clip.words, round(seconds, 3), picture, round(left, 2), round(right - left, 2), sound)
