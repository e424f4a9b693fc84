"""Filters that look at the corpus as a whole, asked when all clips are known."""

from __future__ import annotations

from collections.abc import Sequence

from runyoro_ssl.errors import PluginError
from runyoro_ssl.plugin.spec import Candidate, CorpusFilter
from runyoro_ssl.prepare.accounts import ClipRecord
from runyoro_ssl.prepare.clips.filtering import call_filter, checked_reason


def apply_corpus_filters(
    clips: Sequence[ClipRecord], filters: Sequence[tuple[str, CorpusFilter]], sample_rate: int
) -> dict[int, str]:
    """Drop clips by number, with the reason; each filter sees what those before it let pass.

    Raises:
        PluginError: A filter raised, or did not answer for every clip.
    """
    passed = list(range(len(clips)))
    reasons: dict[int, str] = {}
    for name, filter_ in filters:
        dropped = ask_corpus_filter(name, filter_, [clips[index] for index in passed], sample_rate)
        reasons |= {passed[place]: reason for place, reason in dropped.items()}
        passed = [index for place, index in enumerate(passed) if place not in dropped]
    return reasons


def ask_corpus_filter(
    name: str, filter_: CorpusFilter, clips: Sequence[ClipRecord], sample_rate: int
) -> dict[int, str]:
    """Ask one filter which of these clips it would drop, by number, and the reason.

    Raises:
        PluginError: It raised, or did not answer for every clip.
    """
    candidates = [_candidate(clip, name, sample_rate) for clip in clips]
    answers = call_filter(name, f"{len(clips)} clips", lambda: list(filter_.select(candidates)))
    if len(answers) != len(clips):
        raise PluginError(
            f'filter "{name}" gave {len(answers)} answers for {len(clips)} clips; select() must return the reason, or '
            "None, for each"
        )
    return {
        index: checked_reason(name, clips[index].id, answer)
        for index, answer in enumerate(answers)
        if answer is not None
    }


def _candidate(clip: ClipRecord, name: str, sample_rate: int) -> Candidate:
    """What a filter of this name is shown of a clip."""
    return Candidate(
        id=clip.id,
        source=clip.source,
        recording=clip.recording,
        speaker=clip.speaker,
        language=clip.language,
        offset_sec=clip.offset_sec,
        num_samples=clip.num_samples,
        sample_rate=sample_rate,
        measured=clip.measured[name],
    )
