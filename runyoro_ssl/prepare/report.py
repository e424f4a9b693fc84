"""The report of a preparation: its account in numbers, and a line for each kept clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from runyoro_ssl.dataset.layout import SPLITS
from runyoro_ssl.prepare.absent import find_absent
from runyoro_ssl.prepare.accounts import ClipRecord, Tally

NARROW_BAND_HZ = 4_200.0
"""What reaches less high came over a telephone, whatever its sampling rate is now."""


def build_report(
    tally: Tally,
    clips: Sequence[ClipRecord],
    sampling_rate: int,
    seconds_in_manifest: float,
    *,
    split_by: str = "recording",
    split_warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The content of prepare_report.json, of the kept clips and the account of everything.

    `samples` hold exactly: in = kept + the sum of dropped; seconds are samples / sampling_rate. `split_by` is what was
    held out whole, `split_warnings` what is doubtful about that.
    """
    dropped = tally.dropped()
    return {
        "sampling_rate": sampling_rate,
        "lines_in": tally.lines_in,
        "seconds_in": tally.samples_in / sampling_rate,
        "seconds_in_manifest": seconds_in_manifest,
        "lines_cut": tally.lines_cut,
        "pieces_of_cut_lines": tally.pieces,
        "clips_kept": tally.clips_kept,
        "seconds_kept": tally.samples_kept / sampling_rate,
        "seconds_dropped": sum(samples for _, samples in dropped.values()) / sampling_rate,
        "dropped": {
            reason: {"clips": times, "seconds": samples / sampling_rate} for reason, (times, samples) in dropped.items()
        },
        "flawed_recordings": tally.flaws,
        "samples": {
            "in": tally.samples_in,
            "kept": tally.samples_kept,
            "dropped": {reason: samples for reason, (_, samples) in dropped.items()},
        },
        "absent": find_absent(tally.drops, clips, sampling_rate),
        "splits": _describe_splits(clips, sampling_rate),
        "split_by": split_by,
        "split_warnings": list(split_warnings),
        "speakers": _seconds_by(clips, sampling_rate, lambda clip: clip.speaker),
        "languages": _seconds_by(clips, sampling_rate, lambda clip: clip.language),
        "licences": _seconds_by(clips, sampling_rate, lambda clip: clip.licence),
        "measures": _describe_measures(clips),
        "narrow_band_seconds": sum(
            clip.num_samples
            for clip in clips
            if clip.measures.get("bandwidth_hz", np.inf) < NARROW_BAND_HZ < sampling_rate / 2
        )
        / sampling_rate,
    }


def clip_rows(clips: Sequence[ClipRecord], sampling_rate: int) -> Iterable[dict[str, Any]]:
    """A line for each kept clip: where in its source it is, and what was measured of it."""
    for clip in clips:
        yield {
            "id": clip.id,
            "split": clip.split,
            "audio_filepath": clip.source,
            "offset": clip.offset_sec,
            "duration": clip.num_samples / sampling_rate,
            "recording": clip.recording,
            "speaker": clip.speaker,
            "language": clip.language,
            "gain": clip.gain,
            "licence": clip.licence,
            "measures": clip.measures,
        }


def _describe_splits(clips: Sequence[ClipRecord], sampling_rate: int) -> dict[str, dict[str, Any]]:
    """Clips, seconds, recordings and speakers of each split."""
    parts = {name: [clip for clip in clips if clip.split == name] for name in SPLITS}
    return {
        name: {
            "clips": len(part),
            "seconds": sum(clip.num_samples for clip in part) / sampling_rate,
            "recordings": len({clip.recording for clip in part}),
            "speakers": len({clip.speaker for clip in part} - {None}),
        }
        for name, part in parts.items()
    }


def _seconds_by(
    clips: Sequence[ClipRecord], sampling_rate: int, key: Callable[[ClipRecord], str | None]
) -> dict[str, float]:
    """Seconds kept of each speaker, language or licence that is known, most first."""
    samples: Counter[str] = Counter()
    for clip in clips:
        name = key(clip)
        if name is not None:
            samples[name] += clip.num_samples
    return {name: count / sampling_rate for name, count in sorted(samples.items(), key=lambda one: (-one[1], one[0]))}


def _describe_measures(clips: Sequence[ClipRecord]) -> dict[str, dict[str, float]]:
    """5th, 50th and 95th percentile of each measure over the kept clips."""
    names = dict.fromkeys(name for clip in clips for name in clip.measures)
    described = {}
    for name in names:
        values = [clip.measures[name] for clip in clips if name in clip.measures]
        low, middle, high = (round(float(value), 4) for value in np.percentile(values, [5, 50, 95]))
        described[name] = {"p5": low, "median": middle, "p95": high}
    return described
