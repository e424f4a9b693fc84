"""Whether an alignment is as long as its recording; and whether its times are seconds or samples."""

from __future__ import annotations

from dataclasses import replace

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.labels.intervals import LENGTH_TOLERANCE_SEC, TimedLabels, refuse_overlaps
from runyoro_ssl.evaluate.labels.places import Place

USUAL_RATES = (16_000, 8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Hz."""
MS_A_SECOND = 1000.0


def in_seconds(labels: TimedLabels, place: Place) -> TimedLabels:
    """Labels in seconds, after checking that they end where the recording does, and do not overlap.

    Whole numbers that reach past the end of the recording count samples: at the rate of the recording, if the manifest
    says it, or else at the usual rate by which they end nearest to where the recording does; at 16 kHz, where that is
    not known. Lines whose times are milliseconds are told by where they end, too. Of a recording that the manifest has
    in part, an alignment may be longer.

    Raises:
        EvaluationError: The lengths differ by more than 0.5 s; or two labels overlap.
    """
    a_second = _what_counts_a_second(labels, place)
    refuse_overlaps(labels, a_second)
    rows = [Phone(row.symbol, row.start_sec / a_second, row.end_sec / a_second) for row in labels.rows]
    return replace(labels, rows=rows, may_be_samples=False)


def _what_counts_a_second(labels: TimedLabels, place: Place) -> float:
    """Of times: 1 for seconds, 1000 for milliseconds, else the rate of samples."""
    end, known = labels.rows[-1].end_sec, place.recording_sec
    if labels.may_be_samples and end > known + LENGTH_TOLERANCE_SEC:
        nearest = min(USUAL_RATES, key=lambda rate: abs(end / rate - known))
        for rate in (place.sample_rate or nearest, nearest if place.ends_there else USUAL_RATES[0]):
            if not _differs(end / rate, place, may_stop_early=False):
                return rate
    is_past_the_end = labels.covers_all and place.ends_there and end > known + LENGTH_TOLERANCE_SEC
    if is_past_the_end and not _differs(end / MS_A_SECOND, place, may_stop_early=False):
        return MS_A_SECOND
    may_stop_early = not labels.covers_all and labels.stated_sec is None
    length = max(end, labels.stated_sec or 0.0)
    if _differs(length, place, may_stop_early=may_stop_early):
        unit = " samples or seconds" if labels.may_be_samples else " s"
        raise EvaluationError(
            f"{labels.path}: ends at {length:g}{unit}, but {place.source} at {known:.2f} s; it is of another "
            "recording, or of another version of it: align this one"
        )
    return 1.0


def _differs(length_sec: float, place: Place, *, may_stop_early: bool) -> bool:
    """Whether a length differs from that of the recording by more than is tolerated."""
    more = length_sec - place.recording_sec
    return (more > LENGTH_TOLERANCE_SEC and place.ends_there) or (more < -LENGTH_TOLERANCE_SEC and not may_stop_early)
