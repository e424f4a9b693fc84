"""Preparing long recordings: hours of audio for a core, what a second worker gains, and memory, however many hours."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from runyoro_ssl.bars import progress
from runyoro_ssl.bench.corpus import SAMPLE_RATE
from runyoro_ssl.bench.decoding import core_seconds_to_decode
from runyoro_ssl.bench.measure import Comparison, What, alternate
from runyoro_ssl.bench.recordings import Recording, repeat, write_copies, write_recordings
from runyoro_ssl.bench.watched import Usage, prepare_config, prepare_watched, remove_prepared
from runyoro_ssl.config import Config
from runyoro_ssl.dataset.layout import REPORT
from runyoro_ssl.errors import ConfigError

MAX_RUNS = 3
START_COPIES = 2
START_SEC = 150.0
"""Used of each copy in the small preparation that is taken off: together they give all examples the page has."""
VAD_SHARE = 0.08
"""Of the hours of a large corpus, what each of its two long recordings has: 8 h of 100."""
MIN_HOURS = 1.0
"""Less is lost in what the start of a preparation costs."""
CLOCK_SEC = 0.01
"""In which core seconds are counted."""
BYTES_PER_HOUR = 2 * 3600 * SAMPLE_RATE
ROOM = 2.2
"""The shards and the dataset, for a while beside each other."""


@dataclass(frozen=True)
class LongSubject:
    """Recordings of one format, cut in one way. `hours` of them are prepared; `with_two`: with two workers, too."""

    format: str
    segment: Literal["fixed", "vad"]
    hours: float
    with_two: bool

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{self.format} {self.segment}"


KINDS = (
    LongSubject("wav48", "fixed", hours=6.0, with_two=True),
    LongSubject("mp3", "fixed", hours=3.0, with_two=False),
    LongSubject("m4a", "fixed", hours=3.0, with_two=False),
    LongSubject("wav16", "vad", hours=3.0, with_two=True),
)


@dataclass
class Preparation:
    """A preparation to repeat, and what it took each time."""

    config: Config
    advance: Callable[[], Any] = lambda: None
    usages: list[Usage] = field(default_factory=list)
    hours: float = 0.0
    """Audio of the manifest that was read, by the report."""

    def __call__(self) -> None:
        """Prepare once more."""
        self.usages.append(prepare_watched(self.config))
        report = json.loads((self.config.prepare.output_dir / REPORT).read_text(encoding="utf-8"))
        self.hours = report["seconds_in"] / 3600
        self.advance()

    @property
    def core_seconds(self) -> float:
        """The median."""
        return statistics.median(usage.core_seconds for usage in self.usages)

    @property
    def seconds(self) -> float:
        """The median, by the clock."""
        return statistics.median(usage.seconds for usage in self.usages)

    def peaks(self) -> dict[str, int]:
        """Most bytes resident in the largest process, in the main one and in the largest worker."""
        names = ("peak_bytes", "main_bytes", "worker_bytes")
        return {name: max(getattr(usage, name) for usage in self.usages) for name in names}


def bench_long(folder: Path, runs: int) -> Iterator[Comparison]:
    """Rows "long", of each format with one worker, and "workers", of two workers beside one.

    A rate is a slope: it leaves out what a preparation of a few minutes costs, which is "start" in the row.

    Args:
        folder: Holds `wav`, clips of 16 kHz to join, and `model`.
        runs: Timed runs of each, 3 at most.
    """
    recordings = write_recordings(folder / "wav", folder / "recordings")
    runs = min(runs, MAX_RUNS)
    with progress("preparations") as bar:
        task = bar.add_task("Timing long recordings", total=runs * sum(2 + kind.with_two for kind in KINDS))
        for kind in KINDS:
            yield from _bench_kind(folder, kind, recordings[kind.format], runs, partial(bar.advance, task))


def _bench_kind(
    folder: Path, kind: LongSubject, recording: Recording, runs: int, advance: Callable[[], Any]
) -> Iterator[Comparison]:
    """A row "long", and perhaps one "workers"."""
    # An even number: two workers have the same to do.
    count = 2 * max(1, round(kind.hours * 3600 / recording.seconds / 2))
    many = write_copies(recording, folder / f"{kind.format}-copies", count)
    few = write_copies(recording, folder / f"{kind.format}-start", START_COPIES, START_SEC)
    start, one, two = (
        Preparation(
            prepare_config(folder, manifest, folder / name, segment=kind.segment, num_workers=num_workers), advance
        )
        for manifest, name, num_workers in ((few, "start", 1), (many, "one", 1), (many, "two", 2))
    )
    alternate(start, None, runs=runs, warmup=0)
    seconds, of_two = alternate(one, two if kind.with_two else None, runs=runs, warmup=0)
    yield _row("long", kind.name, seconds, [], _rates(one, start) | _beside_decoding(one, start, recording, runs))
    if kind.with_two:
        without_start = (one.seconds - start.seconds) / (two.seconds - start.seconds)
        yield _row("workers", kind.name, of_two, seconds, {"ratio_without_start": without_start, **two.peaks()})
    for made in (start, one, two):
        remove_prepared(made.config.prepare.output_dir)


def bench_hours(folder: Path, hours: float) -> Iterator[Comparison]:
    """Rows "corpus": so many hours in pieces, and two recordings of 8 % of them each, cut at pauses; two workers, once.

    Raises:
        ConfigError: Too few hours to tell, or too many for the disk.
    """
    _check_hours(folder, hours)
    recording = write_recordings(folder / "wav", folder / "recordings")["wav16"]
    count = max(2, round(hours * 3600 / recording.seconds))
    many = write_copies(recording, folder / "many", count)
    whole = repeat(recording, folder / "whole", max(1, round(VAD_SHARE * hours * 3600 / recording.seconds)))
    few = write_copies(whole, folder / "few", 2)
    start = _once(folder, write_copies(recording, folder / "start", START_COPIES, START_SEC), "fixed")
    for manifest, segment, longest in ((many, "fixed", recording), (few, "vad", whole)):
        made = _once(folder, manifest, segment)
        size = f"{made.hours:.3g} h {segment}"
        yield _row("corpus", size, [made.seconds], [], {"longest_seconds": longest.seconds, **_rates(made, start)})
        remove_prepared(made.config.prepare.output_dir)


def _check_hours(folder: Path, hours: float) -> None:
    if hours < MIN_HOURS:
        raise ConfigError(f"--hours {hours:g} is too little to measure; give {MIN_HOURS:g} or more")
    needed, free = ROOM * hours * BYTES_PER_HOUR, shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"--hours {hours:g} takes {needed / 1e9:.0f} GB in {folder.parent}, where {free / 1e9:.0f} GB are free; "
            "give fewer hours, or set TMPDIR to another disk"
        )


def _once(folder: Path, manifest: Path, segment: str) -> Preparation:
    made = Preparation(prepare_config(folder, manifest, folder / "prepared", segment=segment, num_workers=2))
    with progress("preparations") as bar:
        made.advance = partial(bar.advance, bar.add_task(f"Preparing {manifest.parent.name}", total=1))
        made()
    return made


def _rates(made: Preparation, start: Preparation) -> dict[str, Any]:
    """Rates of the audio that `made` has more than `start`."""
    hours = made.hours - start.hours
    core_seconds = max(CLOCK_SEC, made.core_seconds - start.core_seconds)
    return {
        "audio_seconds": 3600 * made.hours,
        "core_seconds": made.core_seconds,
        "start_core_seconds": start.core_seconds,
        "hours_per_core_minute": 60 * hours / core_seconds,
        "times_real_time_per_core": 3600 * hours / core_seconds,
        "seconds_per_hour": (made.seconds - start.seconds) / hours,
        **made.peaks(),
    }


def _beside_decoding(made: Preparation, start: Preparation, recording: Recording, runs: int) -> dict[str, float]:
    """The rate of decoding and resampling alone, in this process, and the share of it that preparing has."""
    alone = statistics.median(core_seconds_to_decode(recording.path, SAMPLE_RATE) for _ in range(runs + 1))
    rate = recording.seconds / 60 / max(CLOCK_SEC, alone)
    share = _rates(made, start)["hours_per_core_minute"] / rate
    return {"decoding_hours_per_core_minute": rate, "share_of_decoding": share}


def _row(what: What, size: str, ours: Sequence[float], reference: Sequence[float], extra: dict[str, Any]) -> Comparison:
    return Comparison(what, size, "int16", "int16", ours, reference, extra)
