"""Where every second of the input went, for the corpus page: the report's numbers in words and shares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runyoro_ssl.audio.reasons import explain
from runyoro_ssl.dataset.layout import VALIDATION
from runyoro_ssl.page.amounts import amount_of_time, number, plural, share
from runyoro_ssl.page.render import Tile
from runyoro_ssl.prepare.accounts import ClipRecord

UNKNOWN = "\N{EN DASH}"
NUM_NAMED = 40
"""Missing speakers that the page names; the report names all."""
NUM_EXAMPLES = 5
"""Recordings with a flaw that the page names; the report names all."""
NUM_COLOURS = 8
"""Reasons with a colour of their own; the smaller ones share the last."""


@dataclass(frozen=True)
class Part:
    """A part of the input: what was kept, or dropped for one reason. `colour` is its CSS class."""

    name: str
    seconds: float
    clips: int
    percent: float
    share: str
    colour: str
    meaning: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Breakdown:
    """The parts of the input, kept first, then the reasons from the largest; `proof` says whether they add up."""

    parts: Sequence[Part]
    proof: str

    @property
    def dropped(self) -> Sequence[Part]:
        """The parts that are not in the dataset, one for each reason."""
        return self.parts[1:]


@dataclass(frozen=True)
class SplitInWords:
    """A split as the page tells of it."""

    name: str
    clips: str
    time: str
    share: str
    recordings: str
    speakers: str


@dataclass(frozen=True)
class FlawInWords:
    """A flaw of recordings that were used nevertheless: which, what it means, and some of them with details."""

    name: str
    recordings: int
    meaning: str
    remedy: str
    examples: Sequence[str]


def flaws_of(report: Mapping[str, Any]) -> list[FlawInWords]:
    """The flaws of a report, the most frequent first."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for source, flaws in report["flawed_recordings"].items():
        for flaw in flaws.split("; "):
            reason, _, detail = flaw.partition(": ")
            found[reason].append(f"{source}: {detail}" if detail else source)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [FlawInWords(reason, len(all_), *explain(reason), all_[:NUM_EXAMPLES]) for reason, all_ in ordered]


def break_down(report: Mapping[str, Any]) -> Breakdown:
    """Divide the input of a report into kept and dropped time, each in per cent of both together."""
    kept = report["seconds_kept"]
    dropped = sorted(report["dropped"].items(), key=lambda item: (-item[1]["seconds"], item[0]))
    whole = kept + sum(values["seconds"] for _, values in dropped)
    parts = [_part("kept", kept, report["clips_kept"], whole, "kept")]
    for place, (reason, values) in enumerate(dropped):
        colour = f"reason-{min(place + 1, NUM_COLOURS)}"
        parts.append(_part(reason, values["seconds"], values["clips"], whole, colour))
    return Breakdown(parts, _proof(report["samples"]))


def _part(name: str, seconds: float, clips: int, whole: float, colour: str) -> Part:
    percent = round(100 * seconds / whole, 4) if whole else 0.0
    meaning, remedy = explain(name)
    return Part(name, seconds, clips, percent, share(seconds, whole), colour, meaning, remedy)


def who_is_missing(absent: Mapping[str, Any]) -> list[str]:
    """Sentences on the speakers and recordings of which nothing was kept, from that part of the report."""
    speakers, recordings = absent["speakers"], absent["recordings"]
    sentences = []
    if speakers:
        named = [f"{name} ({_with_times(about['seconds'])})" for name, about in list(speakers.items())[:NUM_NAMED]]
        rest = [plural(len(speakers) - NUM_NAMED, "other")] if len(speakers) > NUM_NAMED else []
        sentences.append(f"Nothing was kept of {plural(len(speakers), 'speaker')}: {', '.join(named + rest)}.")
    if recordings:
        why = ", ".join(f"{reason} {number(count)}" for reason, count in recordings.items())
        sentences.append(f"Nothing was kept of {plural(sum(recordings.values()), 'recording')}: {why}.")
    return sentences


def _with_times(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{reason} {amount_of_time(time)}" for reason, time in seconds.items())


def _proof(samples: Mapping[str, Any]) -> str:
    dropped = sum(samples["dropped"].values())
    missing = samples["in"] - samples["kept"] - dropped
    sentence = f"{number(samples['in'])} samples in, {number(samples['kept'])} kept, {number(dropped)} dropped"
    return (
        f"{sentence}: it adds up to the sample." if not missing else f"{sentence}: {number(missing)} unaccounted for!"
    )


def headline(report: Mapping[str, Any], clips: Sequence[ClipRecord]) -> list[Tile]:
    """The tiles at the top of the page."""
    seconds_in, seconds_kept, num_reasons = report["seconds_in"], report["seconds_kept"], len(report["dropped"])
    recordings, speakers = len({clip.recording for clip in clips}), len({clip.speaker for clip in clips} - {None})
    languages = len(report["languages"])
    held_out = report["splits"][VALIDATION]["seconds"]
    return [
        Tile(amount_of_time(seconds_in), "came in", plural(report["lines_in"], "manifest line")),
        Tile(amount_of_time(seconds_kept), "kept", f"{share(seconds_kept, seconds_in)} of the input"),
        Tile(
            amount_of_time(report["seconds_dropped"]),
            "dropped",
            f"for {plural(num_reasons, 'reason')}" if num_reasons else "",
        ),
        Tile(number(report["clips_kept"]), "clips", _usual_length(clips, report["sampling_rate"])),
        Tile(number(recordings), "recordings", ""),
        Tile(number(speakers) if speakers else UNKNOWN, "speakers", "" if speakers else "not named"),
        Tile(number(languages) if languages else UNKNOWN, "languages", "" if languages else "not named"),
        Tile(amount_of_time(held_out), VALIDATION, f"{share(held_out, seconds_kept)} of what is kept"),
    ]


def _usual_length(clips: Sequence[ClipRecord], rate: int) -> str:
    if not clips:
        return ""
    return f"median {number(float(np.median([clip.num_samples for clip in clips])) / rate, 1)} s"


def splits_of(report: Mapping[str, Any]) -> list[SplitInWords]:
    """The splits as the report describes them, in words."""
    whole = sum(values["seconds"] for values in report["splits"].values())
    return [
        SplitInWords(
            name,
            number(values["clips"]),
            amount_of_time(values["seconds"]),
            share(values["seconds"], whole),
            number(values["recordings"]),
            number(values["speakers"]),
        )
        for name, values in report["splits"].items()
    ]
