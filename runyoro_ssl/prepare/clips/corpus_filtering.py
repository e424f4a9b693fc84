"""What is decided when all clips are known: by the filters that look at the corpus as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runyoro_ssl.errors import PluginError
from runyoro_ssl.plugin.spec import Candidate, CorpusFilter
from runyoro_ssl.prepare.accounts import ClipFacts
from runyoro_ssl.prepare.clips.filtering import call_filter, checked_reason


@dataclass(frozen=True)
class Objection:
    """A corpus filter would drop the clip of this number."""

    clip: int
    name: str
    reason: str


def select(
    clips: Sequence[ClipFacts], filters: Sequence[tuple[str, CorpusFilter]], sample_rate: int
) -> list[Objection]:
    """What each filter in turn objects to among the clips that those before it let pass.

    Raises:
        PluginError: A filter raised, or did not answer for every clip.
    """
    passed = list(range(len(clips)))
    objections: list[Objection] = []
    for name, judge in filters:
        found = objections_of(name, judge, [clips[index] for index in passed], sample_rate)
        objections += [Objection(passed[place], name, reason) for place, reason in found]
        dropped = {place for place, _ in found}
        passed = [index for place, index in enumerate(passed) if place not in dropped]
    return objections


def objections_of(
    name: str, judge: CorpusFilter, clips: Sequence[ClipFacts], sample_rate: int
) -> list[tuple[int, str]]:
    """(number of the clip, reason) for each of these clips that one filter would drop."""
    candidates = [_candidate(clip, name, sample_rate) for clip in clips]
    answers = call_filter(name, f"{len(clips)} clips", lambda: list(judge.select(candidates)))
    if len(answers) != len(clips):
        raise PluginError(
            f'filter "{name}" gave {len(answers)} answers for {len(clips)} clips; select() must return the reason, or '
            "None, for each"
        )
    return [
        (index, checked_reason(name, clips[index].id, answer))
        for index, answer in enumerate(answers)
        if answer is not None
    ]


def _candidate(clip: ClipFacts, name: str, sample_rate: int) -> Candidate:
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
