"""The clips that the filters left, divided: what is trained on, and what is held out, which must be worth judging."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.config import PrepareConfig
from runyoro_ssl.dataset.layout import TRAIN, VALIDATION
from runyoro_ssl.dataset.read import read_stored
from runyoro_ssl.dataset.write import RowPlace
from runyoro_ssl.errors import DatasetError
from runyoro_ssl.evaluate.judged import FEW_SEC, why_not_judged
from runyoro_ssl.prepare.accounts import ClipRecord, Tally
from runyoro_ssl.prepare.split import Group, SplitItem, choose_validation, decide_group, tell_of_voices

MUCH_SHARE = 0.15
"""Of what is kept: more is told of, where far less was wanted."""
NUM_REASONS = 5
"""Reasons that an error names."""


@dataclass(frozen=True)
class StoredClip:
    """A clip that stands in a shard: what is known of it, its real file, and where its row is."""

    record: ClipRecord
    file: str
    row: RowPlace


@dataclass(frozen=True)
class Division:
    """The clips with their splits, those of a split together, in the order in which they are written.

    `by` is what no two splits share; `warnings` says in sentences what is doubtful about what is held out.
    """

    clips: list[StoredClip]
    by: Group
    warnings: tuple[str, ...]


def divide(clips: Sequence[StoredClip], tally: Tally, settings: PrepareConfig, sample_rate: int) -> Division:
    """Hold clips out. Of what is held out, clips that cannot be judged are dropped, and counted in the tally.

    Raises:
        DatasetError: No clip is left, or a split would be empty; it says what dropped the others.
    """
    if not clips:
        raise DatasetError(
            f"{settings.manifest_path}: no clip is left of {tally.lines_in} lines ({_reasons(tally)}); "
            "look at the recordings, or loosen the filters with --set"
        )
    items = [
        SplitItem(clip.file, clip.record.recording, clip.record.speaker, clip.record.num_samples) for clip in clips
    ]
    why_not = cache(lambda index: why_not_judged(read_stored(*clips[index].row), sample_rate))

    def can_judge(index: int) -> bool:
        return why_not(index) is None

    by = decide_group(items, settings.split_by, can_judge=can_judge)
    try:
        held_out = choose_validation(
            items, share=settings.validation_share, by=by, seed=settings.seed, can_judge=can_judge
        )
    except DatasetError as error:
        raise DatasetError(f"{error}{_what_went(tally)}") from None
    dropped = {index: why for index, out in enumerate(held_out) if out and (why := why_not(index))}
    for index, why in dropped.items():
        tally.drop(clips[index].record, Reason.NOT_JUDGED, why)
    kept = [
        replace(clip, record=replace(clip.record, split=name))
        for name, wanted in ((TRAIN, False), (VALIDATION, True))
        for index, (clip, out) in enumerate(zip(clips, held_out, strict=True))
        if out is wanted and index not in dropped
    ]
    warnings = (
        *tell_of_voices(items, by, held_out),
        *_tell_of_amount(kept, by, settings.validation_share, sample_rate),
    )
    return Division(kept, by, warnings)


def _tell_of_amount(clips: Sequence[StoredClip], by: str, wanted: float, sample_rate: int) -> Iterator[str]:
    """Where little is held out, or far more than was wanted."""
    seconds = sum(clip.record.num_samples for clip in clips if clip.record.split == VALIDATION) / sample_rate
    share = seconds * sample_rate / max(1, sum(clip.record.num_samples for clip in clips))
    if seconds < FEW_SEC:
        yield (
            f"only {seconds:.1f} s are held out: under {FEW_SEC:g} s, their loss hardly tells a gain from chance; "
            "--set prepare.validation_share=0.1 holds out more; or add recordings"
        )
    elif share > max(MUCH_SHARE, 2 * wanted):
        instead = "" if by == "recording" else "; --set prepare.split_by=recording holds out recordings instead"
        yield f"{share:.0%} of what is kept is held out, {wanted:.0%} was wanted: each {by} is held out whole{instead}"


def _what_went(tally: Tally) -> str:
    """What dropped the clips that are missing, and whom it took wholly."""
    return f". Dropped before: {_reasons(tally)}" if tally.drops else ""


def _reasons(tally: Tally) -> str:
    dropped = list(tally.dropped().items())
    named = [f"{reason} {times}" for reason, (times, _) in dropped[:NUM_REASONS]]
    return ", ".join([*named, f"{len(dropped) - NUM_REASONS} more"] if len(dropped) > NUM_REASONS else named)
