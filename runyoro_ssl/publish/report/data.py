"""What a run was trained on, as the page tells of it: hours and counts, languages and licences; nobody's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runyoro_ssl.dataset.layout import FINGERPRINT, REPORT, SPLIT_BY, TRAIN, VALIDATION
from runyoro_ssl.evaluate.heard.trained_on import dataset_at_hand, dataset_of
from runyoro_ssl.page.amounts import amount_of_time, plural, share
from runyoro_ssl.page.charts import NamedBar, named_bars
from runyoro_ssl.publish.report.found import FoundRun
from runyoro_ssl.small_files import read_object

WORTH_A_WORD = 0.01
"""Share of telephone speech from which on it is told."""


@dataclass(frozen=True)
class TrainedOn:
    """Speech in numbers and words; `seconds` is None where nothing is known of it."""

    seconds: float | None = None
    clips: int | None = None
    speakers: int | None = None
    held_out_seconds: float | None = None
    sentences: Sequence[str] = ()
    languages: Sequence[NamedBar] = ()
    licences: Sequence[NamedBar] = ()
    counts: Sequence[Sequence[str]] = field(default=())
    """Rows of split, time, clips, recordings, speakers, as text."""


def describe_data(run: FoundRun, at_hand: Path | None = None) -> TrainedOn:
    """Describe what a run was trained on, by its dataset's report if that is found, else by the run's result alone.

    `at_hand`: a dataset that is described where it has the same clips and the run's own is not found.
    """
    place = dataset_at_hand(run.folder, at_hand) or dataset_of(run.folder) or Path()
    report = _read(place / REPORT)
    hours = run.result.get("train_hours")
    seconds = None if hours is None else 3600.0 * float(hours)
    if not report:
        return _of_result(run.result, seconds)
    known = run.result.get("dataset_sha256") or run.record.dataset
    if known is not None and _read(place / FINGERPRINT).get("content_sha256") != known:
        return TrainedOn(
            seconds, sentences=["Where its dataset was, there is another one now: that one is not described."]
        )
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        return _of_report(report)
    return TrainedOn(seconds, sentences=["The report of its dataset cannot be read."])


def _of_result(result: Mapping[str, Any], seconds: float | None) -> TrainedOn:
    """What a run has written of its speech when it was over."""
    gone = "The dataset is no longer where it was, so that no more is known of it here."
    with suppress(KeyError, TypeError, ValueError):
        material = result["material"]
        speakers = int(material["speakers"])
        who = plural(speakers, "speaker") if speakers else "speakers who are not named"
        whole = (
            f"{amount_of_time(float(material['seconds']))} of speech from "
            f"{plural(int(material['recordings']), 'recording')} of {who}, what was held out among it."
        )
        licences = {str(name): float(of) for name, of in material["licences"] if name is not None}
        return TrainedOn(
            seconds,
            speakers=speakers,
            sentences=[whole, gone],
            licences=named_bars(_with_unknown(licences, float(material["seconds"]))),
        )
    return TrainedOn(seconds, sentences=[gone])


def _of_report(report: Mapping[str, Any]) -> TrainedOn:
    train, held_out = report["splits"][TRAIN], report["splits"][VALIDATION]
    whole, by = report["seconds_kept"], str(report.get(SPLIT_BY, "recording"))
    sentences = [
        f"{_amount(train)} to learn from.",
        f"{_amount(held_out)} held out: the model never learns from them, and is measured on them. No {by} is in both.",
    ]
    if not report["licences"]:
        sentences.append("No licence of the recordings is named in the manifest: ask before you share the model.")
    narrow = float(report.get("narrow_band_seconds") or 0.0)
    if whole and narrow / whole >= WORTH_A_WORD:
        sentences.append(f"{share(narrow, whole)} of it sounds like the telephone: nothing above 4 kHz.")
    return TrainedOn(
        seconds=train["seconds"],
        clips=train["clips"],
        speakers=train["speakers"],
        held_out_seconds=held_out["seconds"],
        sentences=sentences,
        languages=named_bars(_with_unknown(report["languages"], whole)),
        licences=named_bars(_with_unknown(report["licences"], whole)),
        counts=[[name, *_row(report["splits"][name])] for name in (TRAIN, VALIDATION)],
    )


def _amount(split: Mapping[str, Any]) -> str:
    who = plural(split["speakers"], "speaker") if split["speakers"] else "speakers who are not named"
    return (
        f"{amount_of_time(split['seconds'])} of speech in {plural(split['clips'], 'clip')}, "
        f"from {plural(split['recordings'], 'recording')} of {who},"
    ).removesuffix(",")


def _with_unknown(sums: Mapping[str, float], whole: float) -> dict[str | None, float]:
    """Seconds by name; those of which no name is known under None. Empty where none is known."""
    missing = whole - sum(sums.values())
    named: dict[str | None, float] = {name: seconds for name, seconds in sums.items()}  # noqa: C416 - a wider key type
    return {**named, None: missing} if named and missing > 1.0 else named


def _row(split: Mapping[str, Any]) -> list[str]:
    counts = (f"{split[name]:,}" for name in ("clips", "recordings", "speakers"))
    return [amount_of_time(split["seconds"]), *counts]


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return read_object(path)
    return {}
