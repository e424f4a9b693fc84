"""`invoke prepare`: a manifest to a dataset, with every second accounted for."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runyoro_ssl.config import Config
from runyoro_ssl.errors import ConfigError, DatasetError
from runyoro_ssl.logs import get_logger, progress
from runyoro_ssl.plugins import Plugins, ensure_picklable
from runyoro_ssl.prepare.clips import ClipFacts, ClipMaker, Drop, Tally, make_shard
from runyoro_ssl.prepare.dataset import (
    DROPPED,
    FINGERPRINT,
    REPORT,
    dataset_features,
    load_splits,
    read_fingerprint,
    save_splits,
    write_json,
)
from runyoro_ssl.prepare.extractor import load_feature_extractor
from runyoro_ssl.prepare.manifest import ManifestEntry, read_manifest, write_jsonl
from runyoro_ssl.prepare.report import build_report, content_digest, describe_origin, describe_splits
from runyoro_ssl.prepare.split import SplitItem, check_splittable, choose_validation
from runyoro_ssl.prepare.workers import decoding_pool, run_ordered

log = get_logger()

SHARD_SECONDS = 600.0
"""Stated audio of one unit of work: keeps progress moving. A recording is decoded whole: about 0.5 GB an hour."""


@dataclass(frozen=True)
class Prepared:
    """What `invoke prepare` made. `report` is the content of prepare_report.json."""

    output_dir: Path
    report: dict[str, Any]
    up_to_date: bool
    """The same input and settings were prepared before, and nothing was done."""


def prepare(config: Config, plugins: Plugins, *, overwrite: bool = False) -> Prepared:
    """Decode, resample, cut, filter, split and save.

    The result appears in `prepare.output_dir` whole or not at all.

    Raises:
        ManifestError, CheckpointError, PluginError: The inputs cannot be used.
        DatasetError: Nothing is left after filtering, or a split would be empty.
        ConfigError: The output folder holds something else.
    """
    started = time.monotonic()
    settings = config.prepare
    entries = read_manifest(settings.manifest_path)
    extractor = load_feature_extractor(config.model.model_name_or_path)
    filters = plugins.filters()
    ensure_picklable("filter", filters)
    origin = describe_origin(config, plugins, extractor.sampling_rate, entries)
    output_dir = settings.output_dir.resolve()
    if not overwrite and (finished_before := _existing(output_dir, origin)):
        return finished_before

    maker = ClipMaker(settings.manifest_path.parent, extractor.sampling_rate, settings.max_duration_sec, tuple(filters))
    unique, tally = _without_repeats(maker, entries)
    check_splittable([_split_item(maker, entry) for entry in unique], settings.split_by)
    _warn_of_short_pieces(config)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    _check_replaceable(output_dir, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix=".prepare-", dir=output_dir.parent) as scratch:
        shards, clips = _make_shards(maker, unique, tally, Path(scratch), config.hardware.num_workers)
        held_out = _hold_out(config, clips, tally)
        finished = Path(scratch) / "dataset"
        save_splits(shards, held_out, finished)
        splits = describe_splits(clips, held_out, extractor.sampling_rate)
        report = build_report(tally, splits, extractor.sampling_rate, entries)
        report["elapsed_seconds"] = round(time.monotonic() - started, 2)
        write_json(finished / REPORT, report)
        write_jsonl(finished / DROPPED, (vars(drop) for drop in tally.drops))
        fingerprint = {**origin, "splits": splits, "content_sha256": content_digest(clips, held_out)}
        write_json(finished / FINGERPRINT, fingerprint)
        _check_replaceable(output_dir, overwrite=overwrite)
        _put_in_place(finished, output_dir, Path(scratch) / "replaced")
    return Prepared(settings.output_dir, report, up_to_date=False)


def _without_repeats(maker: ClipMaker, entries: Sequence[ManifestEntry]) -> tuple[list[ManifestEntry], Tally]:
    """The entries without those that name the same part of the same file again, and the tally of the repeats."""
    seen: set[tuple[str, float, float]] = set()
    unique: list[ManifestEntry] = []
    tally = Tally()
    for entry in entries:
        part = (maker.real_path(entry), entry.offset or 0.0, entry.duration)
        if part in seen:
            num_samples = round(entry.duration * maker.sample_rate)
            tally.clips_in += 1
            tally.samples_in += num_samples
            tally.drops.append(Drop(entry.audio_filepath, entry.offset or 0.0, num_samples, "repeated line"))
        else:
            seen.add(part)
            unique.append(entry)
    return unique, tally


def _split_item(maker: ClipMaker, entry: ManifestEntry) -> SplitItem:
    return SplitItem(
        maker.real_path(entry), entry.recording_id, entry.speaker, round(entry.duration * maker.sample_rate)
    )


def _warn_of_short_pieces(config: Config) -> None:
    settings = config.prepare
    if "duration" in config.plugins.filters and settings.min_duration_sec > settings.max_duration_sec / 2:
        log.warning(
            "pieces_may_be_dropped",
            because="equal pieces of a long clip may be as short as half of max_duration_sec",
            min_duration_sec=settings.min_duration_sec,
            max_duration_sec=settings.max_duration_sec,
        )


def _make_shards(
    maker: ClipMaker, entries: Sequence[ManifestEntry], tally: Tally, folder: Path, num_workers: int
) -> tuple[list[Path], list[ClipFacts]]:
    """Run the clip maker over all entries in worker processes. Results keep the manifest's order."""
    work = [(folder / f"{index:06d}.arrow", part) for index, part in enumerate(_shards_of(entries))]
    shards: list[Path] = []
    clips: list[ClipFacts] = []
    make = partial(make_shard, maker, dataset_features().arrow_schema)
    with decoding_pool(num_workers) as pool, progress("audio seconds") as bar:
        task = bar.add_task("Preparing", total=round(sum(entry.duration for entry in entries)))
        results = run_ordered(pool, make, work, describe=_describe_shard)
        for (path, part), (made_tally, made) in zip(work, results, strict=True):
            tally += made_tally
            clips += made
            if made:
                shards.append(path)
            bar.advance(task, round(sum(entry.duration for entry in part)))
    return shards, clips


def _describe_shard(work: tuple[Path, Sequence[ManifestEntry]]) -> str:
    return f"{work[1][0].audio_filepath} … {work[1][-1].audio_filepath}"


def _shards_of(entries: Sequence[ManifestEntry]) -> list[list[ManifestEntry]]:
    shards: list[list[ManifestEntry]] = [[]]
    seconds = 0.0
    for entry in entries:
        if shards[-1] and seconds + entry.duration > SHARD_SECONDS:
            shards.append([])
            seconds = 0.0
        shards[-1].append(entry)
        seconds += entry.duration
    return shards


def _hold_out(config: Config, clips: Sequence[ClipFacts], tally: Tally) -> list[bool]:
    if not clips:
        reasons = ", ".join(f"{reason} {count}" for reason, (count, _) in tally.dropped().items())
        raise DatasetError(
            f"{config.prepare.manifest_path}: none of {tally.clips_in} clips is left ({reasons}); "
            "look at the recordings, or loosen the filters with --set"
        )
    settings = config.prepare
    items = [SplitItem(clip.file, clip.recording, clip.speaker, clip.num_samples) for clip in clips]
    return choose_validation(items, share=settings.validation_share, by=settings.split_by, seed=settings.seed)


def _existing(output_dir: Path, origin: dict[str, Any]) -> Prepared | None:
    """What the output folder holds, if it is exactly what is asked for; None if there is nothing yet."""
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return None
    try:
        found = read_fingerprint(output_dir)
        load_splits(output_dir, sampling_rate=found["sampling_rate"])
        report = json.loads((output_dir / REPORT).read_text(encoding="utf-8"))
    except (DatasetError, OSError, ValueError):
        _check_replaceable(output_dir, overwrite=False)
        raise
    if found["sha256"] != origin["sha256"]:
        changed = [name for name in origin if name != "sha256" and found.get(name) != origin[name]]
        raise ConfigError(
            f"{output_dir} holds a dataset made otherwise ({', '.join(changed)} differ); add --overwrite to replace "
            "it, or give another --output-dir"
        )
    return Prepared(output_dir, report, up_to_date=True)


def _check_replaceable(output_dir: Path, *, overwrite: bool) -> None:
    """Only a prepared dataset is ever replaced, and only when asked: never a folder of someone's recordings."""
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return
    if not (output_dir / FINGERPRINT).is_file():
        raise ConfigError(f"{output_dir} exists and is not a prepared dataset; give another --output-dir")
    if not overwrite:
        raise ConfigError(f"{output_dir} already holds a dataset; add --overwrite to replace it")


def _put_in_place(finished: Path, output_dir: Path, replaced: Path) -> None:
    """Move the finished folder to its name; what stood there goes last, with the scratch folder."""
    if output_dir.exists():
        output_dir.rename(replaced)
    try:
        finished.rename(output_dir)
    except BaseException:
        if replaced.exists():
            replaced.rename(output_dir)
        raise
