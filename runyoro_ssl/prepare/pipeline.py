"""`invoke prepare`: a manifest to a dataset, with every second accounted for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runyoro_ssl.config import Config
from runyoro_ssl.dataset.layout import (
    CLIPS,
    DROPPED,
    FINGERPRINT,
    KEYS,
    PAGE,
    REPORT,
)
from runyoro_ssl.dataset.read import Clips, load_splits, read_fingerprint
from runyoro_ssl.dataset.write import RowPlace, save_splits
from runyoro_ssl.disk.durable import write_json, write_jsonl, write_text
from runyoro_ssl.errors import ConfigError, DatasetError
from runyoro_ssl.logs import get_logger, progress
from runyoro_ssl.plugin.manager import Plugins
from runyoro_ssl.prepare.accounts import PASSING, ClipFacts, Tally
from runyoro_ssl.prepare.clips.corpus_filtering import select
from runyoro_ssl.prepare.hub import SCHEME, local_manifest
from runyoro_ssl.prepare.manifest import read_manifest
from runyoro_ssl.prepare.report import build_report, clip_rows, content_digest, write_corpus_page
from runyoro_ssl.prepare.shards.job import Job, describe_job
from runyoro_ssl.prepare.shards.run import make_clips
from runyoro_ssl.prepare.shards.shard import Found, cannot_write, find_done
from runyoro_ssl.prepare.shards.store import Store, check_replaceable
from runyoro_ssl.prepare.split import SplitItem, check_splittable, choose_validation

log = get_logger()


@dataclass(frozen=True)
class Prepared:
    """What `invoke prepare` made. `report` is the content of prepare_report.json."""

    output_dir: Path
    report: dict[str, Any]
    up_to_date: bool
    """The same input and settings were prepared before, and nothing was done."""


@dataclass(frozen=True)
class Clip:
    """A clip that is kept: what is known of it, its real file, and where its row is."""

    facts: ClipFacts
    file: str
    row: RowPlace


def prepare(config: Config, plugins: Plugins, *, overwrite: bool = False) -> Prepared:
    """Decode, resample, cut, filter, split and save.

    The result appears in `prepare.output_dir` whole or not at all. What was done stays beside it, in
    `<output_dir>.shards`, until the dataset is complete, or, with `prepare.keep_shards`, for the next time.

    Raises:
        ManifestError, CheckpointError, PluginError: The inputs cannot be used.
        DatasetError: Nothing is left after filtering, a split would be empty, or the disk is full.
        ConfigError: The output folder holds something else, or another process is writing it.
    """
    settings = config.prepare
    store = Store.beside(settings.output_dir.resolve())
    # What is wrong with a local manifest is told before any folder is made.
    job = None if settings.manifest_path.startswith(SCHEME) else _describe(config, plugins, store)
    with store.locked() as lock:
        job = job or _describe(config, plugins, store)
        if overwrite:
            check_replaceable(store.output_dir, overwrite=True)
        elif finished_before := _existing(store.output_dir, job):
            _tidy(config, store, job)
            return finished_before
        check_splittable([job.split_item(line) for line in job.lines], settings.split_by)
        _warn_of_short_pieces(config)
        shards = store.open_shards(job)
        made = make_clips(config, plugins, job, shards)
        clips, tally = _choose(job, made)
        report = _save(config, job, clips, tally, store.finished)
        lock.check()
        store.put_in_place()
        store.clean_up(shards, [found.arrow for found in made], keep_shards=settings.keep_shards)
    return Prepared(settings.output_dir, report, up_to_date=False)


def _describe(config: Config, plugins: Plugins, store: Store) -> Job:
    manifest = local_manifest(config, store.downloads)
    return describe_job(config, plugins, manifest, read_manifest(manifest))


def _tidy(config: Config, store: Store, job: Job) -> None:
    """The dataset was complete when its preparation was killed: do the rest."""
    keep_shards = config.prepare.keep_shards
    if store.is_untidy(keep_shards=keep_shards):
        shards = store.shards_of(job)
        found = find_done(shards, [line.key for line in job.lines])
        store.clean_up(shards, [one.arrow for one in found.values()], keep_shards=keep_shards)


def _warn_of_short_pieces(config: Config) -> None:
    settings = config.prepare
    if "duration" in config.plugins.filters and settings.min_duration_sec > settings.max_duration_sec / 2:
        log.warning(
            "pieces_may_be_dropped",
            because="pieces of a long clip may be as short as half of max_duration_sec",
            min_duration_sec=settings.min_duration_sec,
            max_duration_sec=settings.max_duration_sec,
        )


def _choose(job: Job, made: Sequence[Found]) -> tuple[list[Clip], Tally]:
    """The clips that the corpus filters leave, and the account of everything."""
    tally = job.repeats
    clips: list[Clip] = []
    for line, found in zip(job.lines, made, strict=True):
        tally.add(found.account, line.entry.source)
        file = job.split_item(line).file
        clips += [
            Clip(facts, file, (found.arrow, row)) for facts, row in zip(found.account.clips, found.rows, strict=True)
        ]
    objections = select([clip.facts for clip in clips], job.corpus_filters, job.sample_rate)
    for objection in objections:
        tally.drop(clips[objection.clip].facts, objection.reason)
    dropped = {objection.clip for objection in objections}
    return [clip for index, clip in enumerate(clips) if index not in dropped], tally


def _save(config: Config, job: Job, clips: Sequence[Clip], tally: Tally, finished: Path) -> dict[str, Any]:
    """The dataset with its report, in a folder that is not yet its own. Returns the report."""
    held_out = _hold_out(config, clips, tally)
    splits = {
        name: [clip for clip, out in zip(clips, held_out, strict=True) if out is wanted]
        for name, wanted in (("train", False), ("validation", True))
    }
    facts = {name: [clip.facts for clip in part] for name, part in splits.items()}
    report = build_report(tally, facts, job.sample_rate, job.seconds_in_manifest)
    try:
        _write(job, splits, tally, report, finished, title=config.prepare.output_dir.name)
    except OSError as error:
        shutil.rmtree(finished, ignore_errors=True)
        raise cannot_write(finished, error) from None
    return report


def _write(
    job: Job, splits: dict[str, list[Clip]], tally: Tally, report: dict[str, Any], finished: Path, *, title: str
) -> None:
    facts = {name: [clip.facts for clip in part] for name, part in splits.items()}
    digest = content_digest(facts)
    with progress("clips") as bar:
        task = bar.add_task("Saving", total=sum(map(len, splits.values())))
        rows = {name: [clip.row for clip in part] for name, part in splits.items()}
        save_splits(rows, finished, digest=digest, advance=lambda count: bar.advance(task, count))
    write_json(finished / REPORT, report)
    write_jsonl(finished / DROPPED, (vars(drop) for drop in tally.drops))
    write_text(finished / KEYS, "".join(f"{line.content}\n" for line in job.lines))
    unsettled = sorted({drop.source for drop in tally.drops if drop.reason in PASSING})
    fingerprint = {**job.origin, "splits": report["splits"], "unsettled": unsettled, "content_sha256": digest}
    write_json(finished / FINGERPRINT, fingerprint)
    write_jsonl(finished / CLIPS, clip_rows(facts, job.sample_rate))
    saved = {name: Clips(split) for name, split in load_splits(finished, sampling_rate=job.sample_rate).items()}
    write_corpus_page(finished / PAGE, report, facts, lambda name, index: saved[name].waveform(index), title=title)


def _hold_out(config: Config, clips: Sequence[Clip], tally: Tally) -> list[bool]:
    if not clips:
        reasons = ", ".join(f"{reason} {count}" for reason, (count, _) in tally.dropped().items())
        raise DatasetError(
            f"{config.prepare.manifest_path}: no clip is left of {tally.lines_in} lines ({reasons}); "
            "look at the recordings, or loosen the filters with --set"
        )
    settings = config.prepare
    items = [SplitItem(clip.file, clip.facts.recording, clip.facts.speaker, clip.facts.num_samples) for clip in clips]
    return choose_validation(items, share=settings.validation_share, by=settings.split_by, seed=settings.seed)


def _existing(output_dir: Path, job: Job) -> Prepared | None:
    """What the output folder holds, if it is exactly what is asked for; None if it may be made, or made anew.

    A manifest that has only grown may: the new dataset then holds all that the old one did.
    """
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return None
    try:
        found = read_fingerprint(output_dir)
        load_splits(output_dir, sampling_rate=found["sampling_rate"])
        report = json.loads((output_dir / REPORT).read_text(encoding="utf-8"))
        keys = (output_dir / KEYS).read_text(encoding="utf-8").split()
    except (DatasetError, OSError, ValueError):
        check_replaceable(output_dir, overwrite=False)
        raise
    if found["sha256"] == job.origin["sha256"] and found.get("unsettled"):
        log.info("trying_again", files=len(found["unsettled"]), because="they were dropped for reasons that may pass")
        return None
    if found["sha256"] == job.origin["sha256"]:
        return Prepared(output_dir, report, up_to_date=True)
    changed = [
        name for name in job.origin if name not in ("sha256", "clips_sha256") and found.get(name) != job.origin[name]
    ]
    new = {line.content for line in job.lines}
    if changed == ["input_sha256"] and new >= set(keys):
        log.info("manifest_grew", lines_before=len(keys), lines_now=len(new))
        return None
    raise ConfigError(
        f"{output_dir} holds a dataset made otherwise ({', '.join(changed)} differ); add --overwrite to replace "
        "it, or give another --output-dir"
    )
