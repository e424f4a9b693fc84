"""`invoke prepare`: a manifest to a dataset, with every second accounted for."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyoro_ssl.config import Config
from runyoro_ssl.dataset.layout import (
    CLIPS,
    DROPPED,
    FINGERPRINT,
    HUB_DATASET,
    KEYS,
    PAGE,
    REPORT,
    SPLIT_BY,
)
from runyoro_ssl.disk.durable import write_json, write_jsonl, write_text
from runyoro_ssl.disk.lock import FolderLock
from runyoro_ssl.logs import get_logger
from runyoro_ssl.plugin.manager import Plugins
from runyoro_ssl.prepare.accounts import TRANSIENT, Tally
from runyoro_ssl.prepare.clips.corpus_filtering import apply_corpus_filters
from runyoro_ssl.prepare.clips.filtering import detail_of
from runyoro_ssl.prepare.dividing import StoredClip, divide
from runyoro_ssl.prepare.existing import find_finished
from runyoro_ssl.prepare.hub.address import SCHEME, HubAddress
from runyoro_ssl.prepare.hub.fetch import local_manifest
from runyoro_ssl.prepare.manifest import read_manifest
from runyoro_ssl.prepare.page.dropped import hear_drops
from runyoro_ssl.prepare.page.write import write_page
from runyoro_ssl.prepare.report import build_report, clip_rows
from runyoro_ssl.prepare.saving import save_clips, waveforms_of
from runyoro_ssl.prepare.shards.job import Job, describe_job
from runyoro_ssl.prepare.shards.origin import RECORDED, versions
from runyoro_ssl.prepare.shards.run import make_clips
from runyoro_ssl.prepare.shards.shard import StoredLine, cannot_write, find_done
from runyoro_ssl.prepare.shards.store import Store
from runyoro_ssl.prepare.split import check_splittable

log = get_logger()

NUM_NAMED = 10
"""Speakers that the log names; the report names all."""


@dataclass(frozen=True)
class Prepared:
    """What `invoke prepare` made, or found made. `report` is the content of prepare_report.json."""

    output_dir: Path
    report: dict[str, Any]
    up_to_date: bool
    """The same input and settings were prepared before, and nothing was done."""


def prepare(config: Config, plugins: Plugins, *, overwrite: bool = False) -> Prepared:
    """Prepare a manifest as a dataset: decode, resample, cut, filter, split and save.

    The result appears in `prepare.output_dir` whole or not at all. What was done stays beside it, in
    `<output_dir>.shards`, until the dataset is complete, or, with `prepare.keep_shards`, for the next time.

    Raises:
        ManifestError, CheckpointError, PluginError: The inputs cannot be used.
        DatasetError: Nothing is left after filtering, a split would be empty, or the disk is full.
        ConfigError: The output folder holds something else, or another process is writing it.
    """
    settings = config.prepare
    with opened(config, plugins) as (store, job, lock):
        if finished := find_finished(store, job, overwrite=overwrite):
            _finish_cleaning(config, store, job)
            return Prepared(finished.folder, finished.report, up_to_date=True)
        check_splittable([job.split_item(line) for line in job.lines], settings.split_by)
        _warn_of_short_pieces(config)
        shards = store.open_shards(job)
        made = make_clips(config, plugins, job, shards, store.jobs)
        clips, tally = _choose(job, made)
        report = _save(config, job, clips, tally, store.finished)
        lock.check()
        store.put_in_place()
        store.clean_up(shards, _used(shards, job, made), keep_shards=settings.keep_shards)
    return Prepared(settings.output_dir, report, up_to_date=False)


@contextmanager
def opened(config: Config, plugins: Plugins, *, every_filter: bool = False) -> Iterator[tuple[Store, Job, FolderLock]]:
    """The store of a preparation, held for this process, and what is to be done in it."""

    def describe() -> Job:
        manifest = local_manifest(config, store.downloads)
        return describe_job(config, plugins, manifest, read_manifest(manifest), every_filter=every_filter)

    store = Store.beside(config.prepare.output_dir.resolve())
    # What is wrong with a local manifest is told before any folder is made.
    job = None if config.prepare.manifest_path.startswith(SCHEME) else describe()
    with store.locked() as lock:
        yield store, job or describe(), lock


def _finish_cleaning(config: Config, store: Store, job: Job) -> None:
    """The dataset was complete when its preparation was killed: do the rest."""
    keep_shards = config.prepare.keep_shards
    if store.is_untidy(keep_shards=keep_shards):
        shards = store.shards_of(job)
        made = find_done(shards, [line.key for line in job.lines]).values()
        store.clean_up(shards, _used(shards, job, made), keep_shards=keep_shards)


def _used(shards: Path, job: Job, made: Iterable[StoredLine]) -> list[Path]:
    """The Arrow files that another preparation can use: with more hours, those of lines that were not drawn, too."""
    others = find_done(shards, [line.key for line in job.not_drawn]).values() if job.not_drawn else ()
    return [line.arrow for line in (*made, *others)]


def _warn_of_short_pieces(config: Config) -> None:
    settings = config.prepare
    if "duration" in config.plugins.filters and settings.min_duration_sec > settings.max_duration_sec / 2:
        log.warning(
            "pieces_may_be_dropped",
            because="pieces of a long clip may be as short as half of max_duration_sec",
            min_duration_sec=settings.min_duration_sec,
            max_duration_sec=settings.max_duration_sec,
        )


def _choose(job: Job, made: Sequence[StoredLine]) -> tuple[list[StoredClip], Tally]:
    """The clips that the corpus filters leave, and the account of everything."""
    tally = job.left_out
    clips: list[StoredClip] = []
    for line, stored in zip(job.lines, made, strict=True):
        tally.add(stored.account, line.entry.source, line.entry.recording_id, line.entry.speaker)
        file = job.split_item(line).file
        clips += [
            StoredClip(record, file, (stored.arrow, row))
            for record, row in zip(stored.account.clips, stored.rows, strict=True)
        ]
    dropped = apply_corpus_filters([clip.record for clip in clips], job.corpus_filters, job.sample_rate)
    for index, reason in dropped.items():
        tally.drop(clips[index].record, reason, detail_of(reason))
    return [clip for index, clip in enumerate(clips) if index not in dropped], tally


def _save(config: Config, job: Job, clips: Sequence[StoredClip], tally: Tally, finished: Path) -> dict[str, Any]:
    """The dataset with its report, in a folder that is not yet its own. Returns the report."""
    division = divide(clips, tally, config.prepare, job.sample_rate)
    clips = division.clips
    report = build_report(
        tally,
        [clip.record for clip in clips],
        job.sample_rate,
        job.seconds_in_manifest,
        split_by=division.by,
        split_warnings=division.warnings,
    )
    if config.prepare.manifest_path.startswith(SCHEME):
        address = HubAddress.parse(config.prepare.manifest_path)
        report |= {} if address.is_local else {HUB_DATASET: address.name}
    _tell(report)
    try:
        title, num_workers = config.prepare.output_dir.name, config.hardware.num_workers
        _write(job, clips, tally, report, finished, title=title, num_workers=num_workers)
    except OSError as error:
        shutil.rmtree(finished, ignore_errors=True)
        raise cannot_write(finished, error) from None
    return report


def _tell(report: Mapping[str, Any]) -> None:
    """Say before the page does what is doubtful: who is wholly missing, and what the held-out scores flatter."""
    speakers = report["absent"]["speakers"]
    if speakers:
        named = [f"{name} ({', '.join(about['seconds'])})" for name, about in list(speakers.items())[:NUM_NAMED]]
        more = [f"and {len(speakers) - NUM_NAMED} more, see {REPORT}"] if len(speakers) > NUM_NAMED else []
        log.warning("speakers_wholly_dropped", count=len(speakers), who=", ".join(named + more))
    recordings = report["absent"]["recordings"]
    if recordings:
        why = ", ".join(f"{reason} {count}" for reason, count in recordings.items())
        log.warning("recordings_wholly_dropped", count=sum(recordings.values()), why=why)
    for warning in report["split_warnings"]:
        log.warning("validation_split", note=warning)


def _write(
    job: Job,
    clips: Sequence[StoredClip],
    tally: Tally,
    report: dict[str, Any],
    finished: Path,
    *,
    title: str,
    num_workers: int,
) -> None:
    records = [clip.record for clip in clips]
    digest = save_clips(clips, finished, num_workers=num_workers)
    write_json(finished / REPORT, report)
    write_jsonl(finished / DROPPED, (vars(drop) for drop in tally.drops))
    write_text(finished / KEYS, "".join(f"{line.content}\n" for line in job.lines))
    unsettled = sorted({drop.source for drop in tally.drops if drop.reason in TRANSIENT})
    about = {
        "splits": report["splits"],
        SPLIT_BY: report["split_by"],
        "unsettled": unsettled,
        "content_sha256": digest,
    }
    write_json(finished / FINGERPRINT, {**job.origin, "written_with": versions(RECORDED), **about})
    write_jsonl(finished / CLIPS, clip_rows(records, job.sample_rate))
    write_page(
        finished / PAGE,
        report,
        records,
        waveforms_of(finished, job.sample_rate),
        title=title,
        dropped=hear_drops(tally.drops, job.file_of, job.sample_rate),
    )
