"""Accounts of audio: what became of every sample of a manifest line, kept in a clip or dropped for a reason.

They are written as JSON beside each shard; their sum is the account of a preparation.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from runyoro_ssl.audio.reasons import Reason

TRANSIENT = frozenset(
    {Reason.NOT_OPENED, Reason.CHANGED, Reason.OUT_OF_MEMORY, Reason.PROCESS_CRASHED, Reason.TIME_LIMIT}
)
"""Reasons that may not hold another time: on another day, with other limits, on another machine."""


@dataclass(frozen=True)
class Drop:
    """A stretch of audio that is not in the dataset: `num_samples` at the model's rate, why, and whose it is."""

    source: str
    offset_sec: float
    num_samples: int
    reason: str
    detail: str = ""
    recording: str = ""
    speaker: str | None = None


@dataclass(frozen=True)
class ClipRecord:
    """All that `prepare` keeps of a clip beside its samples: shards, splits, report and page read it.

    It begins `offset_sec` into `source`, the path of the manifest, whose samples were multiplied by `gain`. `measures`
    are those of `audio.measures`; `measured` is what each corpus filter wants to know, by its name; `drop_reasons` are
    those of the filters that would drop it, by name, enabled or not, if a dry run asked them. `split` is the one it was
    put into, "" before that. A clip that a dry run saw dropped has neither checksum nor measures.
    """

    id: str
    source: str
    recording: str
    speaker: str | None
    language: str | None
    licence: str | None
    offset_sec: float
    num_samples: int
    crc32: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    drop_reasons: dict[str, str] = field(default_factory=dict)
    gain: float = 1.0
    split: str = ""

    def drop(self, reason: str, detail: str = "") -> Drop:
        """The clip as audio that was dropped."""
        return Drop(self.source, self.offset_sec, self.num_samples, reason, detail, self.recording, self.speaker)


@dataclass
class Account:
    """What became of one manifest line: `samples_in` = samples of its clips + of its drops, exactly.

    `key` tells the line, its file's size and time, and the settings apart from all others. `cut` is whether its audio
    was cut, into `num_pieces`. `flaw` is what was wrong with a recording that was used nevertheless, as far as it went.
    `trial` is the `ClipFilters.trial` of a dry run that made it, `tried` the clips that were dropped then.
    """

    key: str
    samples_in: int = 0
    cut: bool = False
    num_pieces: int = 0
    flaw: str | None = None
    clips: list[ClipRecord] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    trial: str = ""
    tried: list[ClipRecord] = field(default_factory=list)

    @property
    def samples_kept(self) -> int:
        """The samples of its clips."""
        return sum(clip.num_samples for clip in self.clips)

    @property
    def is_settled(self) -> bool:
        """Whether working on the line again would give the same."""
        return not any(drop.reason in TRANSIENT for drop in self.drops)

    def to_json(self) -> dict[str, Any]:
        """The account as a JSON value, for `from_json`."""
        clips, tried = ([_to_json(clip) for clip in part] for part in (self.clips, self.tried))
        return {**vars(self), "clips": clips, "drops": [vars(drop) for drop in self.drops], "tried": tried}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The account that `to_json` gave."""
        clips, tried = ([_from_json(clip) for clip in value.get(part, ())] for part in ("clips", "tried"))
        return cls(**{**value, "clips": clips, "drops": [Drop(**drop) for drop in value["drops"]], "tried": tried})


@dataclass
class Tally:
    """The sum of many accounts, in samples at the model's rate: in = kept + dropped, exactly."""

    lines_in: int = 0
    samples_in: int = 0
    lines_cut: int = 0
    pieces: int = 0
    clips_kept: int = 0
    samples_kept: int = 0
    flaws: dict[str, str] = field(default_factory=dict)
    drops: list[Drop] = field(default_factory=list)

    def add(self, account: Account, source: str, recording: str = "", speaker: str | None = None) -> None:
        """Add the account of a manifest line of this source, recording and speaker."""
        self.lines_in += 1
        self.samples_in += account.samples_in
        self.lines_cut += account.cut
        self.pieces += account.num_pieces
        self.clips_kept += len(account.clips)
        self.samples_kept += account.samples_kept
        self.drops += [replace(drop, recording=recording, speaker=speaker) for drop in account.drops]
        if account.flaw:
            told = [*self.flaws.get(source, "").split("; "), *account.flaw.split("; ")]
            self.flaws[source] = "; ".join(dict.fromkeys(one for one in told if one))

    def drop(self, clip: ClipRecord, reason: str, detail: str = "") -> None:
        """Count a clip as dropped that was counted as kept."""
        self.clips_kept -= 1
        self.samples_kept -= clip.num_samples
        self.drops.append(clip.drop(reason, detail))

    def dropped(self) -> dict[str, tuple[int, int]]:
        """What was dropped: reason -> (times, samples), largest first."""
        times: Counter[str] = Counter()
        samples: Counter[str] = Counter()
        for drop in self.drops:
            times[drop.reason] += 1
            samples[drop.reason] += drop.num_samples
        return {reason: (times[reason], count) for reason, count in samples.most_common()}


def _to_json(clip: ClipRecord) -> dict[str, Any]:
    return {**vars(clip), "measured": _encode(clip.measured)}


def _from_json(clip: Mapping[str, Any]) -> ClipRecord:
    return ClipRecord(**{**clip, "measured": _decode(clip["measured"])})


def _encode(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else {"json": value}
        for name, value in measured.items()
    }


def _decode(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: base64.b64decode(value["base64"]) if "base64" in value else value["json"]
        for name, value in measured.items()
    }
