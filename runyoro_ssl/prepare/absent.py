"""Speakers and recordings of which nothing is in the dataset, and why: nobody should miss them later."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from runyoro_ssl.prepare.accounts import ClipRecord, Drop


def find_absent(drops: Sequence[Drop], clips: Sequence[ClipRecord], sampling_rate: int) -> dict[str, Any]:
    """Find who and what was wholly dropped, as a part of the report.

    Returns:
        `speakers`, by name: `recordings` (their number) and `seconds` by reason. `recordings`: the number of recordings
        by the reason that took most of each.
    """
    present = {clip.recording for clip in clips}
    gone: dict[str, Counter[str]] = defaultdict(Counter)
    for drop in drops:
        if drop.recording not in present:
            gone[drop.recording][drop.reason] += drop.num_samples
    main_reasons = Counter(samples.most_common(1)[0][0] for samples in gone.values())
    return {
        "speakers": _speakers(drops, {clip.speaker for clip in clips}, sampling_rate),
        "recordings": dict(main_reasons.most_common()),
    }


def _speakers(drops: Sequence[Drop], present: set[str | None], sampling_rate: int) -> dict[str, dict[str, Any]]:
    samples: dict[str, Counter[str]] = defaultdict(Counter)
    recordings: dict[str, set[str]] = defaultdict(set)
    for drop in drops:
        if drop.speaker is not None and drop.speaker not in present:
            samples[drop.speaker][drop.reason] += drop.num_samples
            recordings[drop.speaker].add(drop.recording)
    return {
        name: {
            "recordings": len(recordings[name]),
            "seconds": {reason: count / sampling_rate for reason, count in samples[name].most_common()},
        }
        for name in sorted(samples)
    }
