"""Stretches around gaps: samples that stand for nothing are in no clip."""

from __future__ import annotations

from collections.abc import Sequence

from runyoro_ssl.prepare.clips.segment import Bounds


def around_gaps(start: int, stop: int, gaps: Sequence[Bounds]) -> tuple[list[Bounds], list[Bounds]]:
    """Split a stretch of samples into what lies around gaps, which ascend, and what lies in them."""
    whole: list[Bounds] = []
    lost: list[Bounds] = []
    at = start
    for first, last in gaps:
        first, last = max(at, first), min(stop, last)  # noqa: PLW2901 - of this stretch
        if first < last:
            whole.append((at, first))
            lost.append((first, last))
            at = last
    whole.append((at, stop))
    return [(first, last) for first, last in whole if first < last], lost
