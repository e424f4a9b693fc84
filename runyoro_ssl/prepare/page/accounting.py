"""Where every second of the input went, for the corpus page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runyoro_ssl.page.amounts import amount_of_time, number, plural, share
from runyoro_ssl.prepare.page.reasons import explain
from runyoro_ssl.prepare.page.summary import ClipSummary

UNKNOWN = "\N{EN DASH}"
NUM_COLOURS = 8
"""Reasons with a colour of their own; the smaller ones share the last."""


@dataclass(frozen=True)
class Part:
    """Kept, or one reason to drop. `colour` is its CSS class; `clips` None: the report does not say."""

    name: str
    seconds: float
    clips: int | None
    percent: float
    share: str
    colour: str
    meaning: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Account:
    """The parts, kept first, then the reasons from the largest; `proof` says whether they add up."""

    parts: Sequence[Part]
    proof: str

    @property
    def kept(self) -> Part:
        """What is in the dataset."""
        return self.parts[0]

    @property
    def dropped(self) -> Sequence[Part]:
        """What is not, by reason."""
        return self.parts[1:]


@dataclass(frozen=True)
class Split:
    """A split, in words."""

    name: str
    clips: str
    time: str
    share: str
    recordings: str
    speakers: str


def account(report: Mapping[str, Any], clips: Sequence[ClipSummary], rate: int) -> Account:
    """Kept and dropped time, each in per cent of both together."""
    kept = float(report.get("seconds_kept", _seconds(clips, rate)))
    dropped = sorted(report.get("dropped", {}).items(), key=lambda item: (-_dropped_seconds(item[1]), item[0]))
    whole = kept + sum(_dropped_seconds(values) for _, values in dropped)
    parts = [_part("kept", kept, int(report.get("clips_kept", len(clips))), whole, "kept")]
    for place, (reason, values) in enumerate(dropped):
        colour = f"reason-{min(place + 1, NUM_COLOURS)}"
        parts.append(_part(reason, _dropped_seconds(values), values.get("clips"), whole, colour))
    return Account(parts, _proof(report))


def _part(name: str, seconds: float, clips: int | None, whole: float, colour: str) -> Part:
    percent = round(100 * seconds / whole, 4) if whole else 0.0
    meaning, remedy = explain(name)
    return Part(name, seconds, clips, percent, share(seconds, whole), colour, meaning, remedy)


def _dropped_seconds(values: Mapping[str, Any]) -> float:
    return float(values.get("seconds", 0.0))


def _proof(report: Mapping[str, Any]) -> str:
    samples = report.get("samples", {})
    if not {"in", "kept", "dropped"} <= samples.keys():
        return ""
    dropped = sum(samples["dropped"].values())
    missing = samples["in"] - samples["kept"] - dropped
    sentence = f"{number(samples['in'])} samples in, {number(samples['kept'])} kept, {number(dropped)} dropped"
    return (
        f"{sentence}: it adds up to the sample." if not missing else f"{sentence}: {number(missing)} unaccounted for!"
    )


def headline(report: Mapping[str, Any], clips: Sequence[ClipSummary], rate: int) -> list[tuple[str, str, str]]:
    """(Figure, what it is, remark) of the tiles at the top."""
    parts = account(report, clips, rate)
    dropped = sum(part.seconds for part in parts.dropped)
    seconds_in = float(report.get("seconds_in", parts.kept.seconds + dropped))
    clips_in = report.get("clips_in")
    recordings, speakers = len({clip.recording for clip in clips}), len({clip.speaker for clip in clips} - {None})
    languages = len({clip.language for clip in clips} - {None})
    return [
        (amount_of_time(seconds_in), "came in", plural(clips_in, "manifest line") if clips_in is not None else ""),
        (amount_of_time(parts.kept.seconds), "kept", f"{share(parts.kept.seconds, seconds_in)} of the input"),
        (amount_of_time(dropped), "dropped", f"for {plural(len(parts.dropped), 'reason')}" if parts.dropped else ""),
        (number(parts.kept.clips or 0), "clips", _usual_length(clips, rate)),
        (number(recordings), "recordings", ""),
        (number(speakers) if speakers else UNKNOWN, "speakers", "" if speakers else "not named"),
        (number(languages) if languages else UNKNOWN, "languages", "" if languages else "not named"),
        _split_tile(clips, rate),
    ]


def _usual_length(clips: Sequence[ClipSummary], rate: int) -> str:
    if not clips:
        return ""
    return f"median {number(float(np.median([clip.num_samples for clip in clips])) / rate, 1)} s"


def _split_tile(clips: Sequence[ClipSummary], rate: int) -> tuple[str, str, str]:
    held_out = _seconds([clip for clip in clips if clip.split == "validation"], rate)
    return amount_of_time(held_out), "validation", f"{share(held_out, _seconds(clips, rate))} of what is kept"


def splits_of(report: Mapping[str, Any], clips: Sequence[ClipSummary], rate: int) -> list[Split]:
    """The splits as the report describes them, or else as the clips do."""
    described = report.get("splits") or {
        name: _describe([clip for clip in clips if clip.split == name], rate) for name in ("train", "validation")
    }
    whole = sum(float(values.get("seconds", 0.0)) for values in described.values())
    return [_split(name, values, whole) for name, values in described.items()]


def _split(name: str, values: Mapping[str, Any], whole: float) -> Split:
    counts = [number(values[key]) if key in values else UNKNOWN for key in ("clips", "recordings", "speakers")]
    seconds = float(values.get("seconds", 0.0))
    return Split(name, counts[0], amount_of_time(seconds), share(seconds, whole), counts[1], counts[2])


def _describe(clips: Sequence[ClipSummary], rate: int) -> dict[str, Any]:
    return {
        "clips": len(clips),
        "seconds": _seconds(clips, rate),
        "recordings": len({clip.recording for clip in clips}),
        "speakers": len({clip.speaker for clip in clips} - {None}),
    }


def _seconds(clips: Sequence[ClipSummary], rate: int) -> float:
    return sum(clip.num_samples for clip in clips) / rate
