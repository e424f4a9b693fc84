"""`invoke prepare`: a manifest to a dataset, with every second accounted for."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runyoro_ssl.config import Config
from runyoro_ssl.errors import ConfigError, DatasetError
from runyoro_ssl.logs import get_logger, progress
from runyoro_ssl.plugins import Plugins, ensure_picklable
from runyoro_ssl.prepare.clips import ClipMaker, Tally
from runyoro_ssl.prepare.dataset import (
    DROPPED,
    FINGERPRINT,
    FORMAT,
    REPORT,
    read_fingerprint,
    save_splits,
    write_json,
    write_shard,
)
from runyoro_ssl.prepare.extractor import load_feature_extractor
from runyoro_ssl.prepare.manifest import ManifestEntry, manifest_digest, read_manifest, write_jsonl
from runyoro_ssl.prepare.split import SplitItem, choose_validation
from runyoro_ssl.prepare.workers import decoding_pool, run_ordered

log = get_logger()

SHARD_SECONDS = 600.0
"""Stated audio of one unit of work: bounds a worker's memory, and keeps progress moving."""


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
    origin = _origin(config, extractor.sampling_rate, entries)
    if settings.output_dir.exists() and not overwrite:
        return _existing(settings.output_dir, origin)

    maker = ClipMaker(settings.manifest_path.parent, extractor.sampling_rate, settings.max_duration_sec, tuple(filters))
    settings.output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".prepare-", dir=settings.output_dir.parent) as scratch:
        shards, items, tally = _make_shards(maker, entries, Path(scratch), config.hardware.num_workers)
        held_out = _hold_out(config, items, tally)
        finished = Path(scratch) / "dataset"
        save_splits(shards, held_out, finished)
        splits = _describe_splits(items, held_out, extractor.sampling_rate)
        report = _report(tally, splits, extractor.sampling_rate, entries)
        report["elapsed_seconds"] = round(time.monotonic() - started, 2)
        write_json(finished / REPORT, report)
        write_jsonl(finished / DROPPED, (vars(drop) for drop in tally.drops))
        write_json(finished / FINGERPRINT, {**origin, "splits": splits})
        _put_in_place(finished, settings.output_dir, Path(scratch) / "replaced")
    return Prepared(settings.output_dir, report, up_to_date=False)


def _make_shards(
    maker: ClipMaker, entries: Sequence[ManifestEntry], folder: Path, num_workers: int
) -> tuple[list[Path], list[SplitItem], Tally]:
    """Run the clip maker over all entries in worker processes. Results keep the manifest's order."""
    work = [(folder / f"{index:06d}.arrow", part) for index, part in enumerate(_shards_of(entries))]
    shards: list[Path] = []
    items: list[SplitItem] = []
    total = Tally()
    with decoding_pool(num_workers) as pool, progress("audio seconds") as bar:
        task = bar.add_task("Preparing", total=round(sum(entry.duration for entry in entries)))
        for (path, part), (tally, made) in zip(work, run_ordered(pool, partial(_make_shard, maker), work), strict=True):
            total += tally
            items += made
            if made:
                shards.append(path)
            bar.advance(task, round(sum(entry.duration for entry in part)))
    return shards, items, total


def _make_shard(maker: ClipMaker, work: tuple[Path, Sequence[ManifestEntry]]) -> tuple[Tally, list[SplitItem]]:
    """Runs in a worker: one shard of the manifest to one Arrow file."""
    path, entries = work
    rows, tally = maker.make(entries)
    if rows:
        write_shard(path, rows)
    return tally, [SplitItem(row["recording"], row["speaker"], row["num_samples"]) for row in rows]


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


def _hold_out(config: Config, items: Sequence[SplitItem], tally: Tally) -> list[bool]:
    if not items:
        reasons = ", ".join(f"{reason} {clips}" for reason, (clips, _) in tally.dropped().items())
        raise DatasetError(
            f"{config.prepare.manifest_path}: none of {tally.clips_in} clips is left ({reasons}); "
            "look at the recordings, or loosen the filters with --set"
        )
    settings = config.prepare
    return choose_validation(items, share=settings.validation_share, by=settings.split_by, seed=settings.seed)


def _origin(config: Config, sampling_rate: int, entries: Sequence[ManifestEntry]) -> dict[str, Any]:
    """Everything that decides the output: input, settings, versions; and one digest over it."""
    settings = config.prepare.model_dump(mode="json", exclude={"manifest_path", "output_dir"})
    origin: dict[str, Any] = {
        "format": FORMAT,
        "sampling_rate": sampling_rate,
        "input_sha256": manifest_digest(config.prepare.manifest_path, entries),
        "settings": {
            **settings,
            "filters": list(config.plugins.filters),
            "options": {name: config.plugins.options.get(name, {}) for name in config.plugins.filters},
        },
        "versions": {name: version(name) for name in ("runyoro_ssl", "soundfile", "soxr", "datasets", "numpy")},
    }
    origin["sha256"] = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    return origin


def _existing(output_dir: Path, origin: dict[str, Any]) -> Prepared:
    """The output folder is taken: fine if it holds exactly this, an error otherwise."""
    advice = "add --overwrite to replace it, or give another --output-dir"
    try:
        found = read_fingerprint(output_dir)
    except DatasetError:
        raise ConfigError(f"{output_dir} exists and is not a prepared dataset; {advice}") from None
    if found["sha256"] != origin["sha256"]:
        changed = [
            name for name in ("input_sha256", "settings", "sampling_rate", "versions") if found[name] != origin[name]
        ]
        raise ConfigError(f"{output_dir} holds a dataset made otherwise ({', '.join(changed)} differ); {advice}")
    report = json.loads((output_dir / REPORT).read_text(encoding="utf-8"))
    return Prepared(output_dir, report, up_to_date=True)


def _put_in_place(finished: Path, output_dir: Path, replaced: Path) -> None:
    """Move the finished folder to its name; what stood there goes last, with the scratch folder."""
    if output_dir.exists():
        output_dir.rename(replaced)
    try:
        finished.rename(output_dir)
    except OSError:
        if replaced.exists():
            shutil.move(replaced, output_dir)
        raise


def _describe_splits(
    items: Sequence[SplitItem], held_out: Sequence[bool], sampling_rate: int
) -> dict[str, dict[str, Any]]:
    splits = {}
    for name, wanted in (("train", False), ("validation", True)):
        part = [item for item, out in zip(items, held_out, strict=True) if out is wanted]
        splits[name] = {
            "clips": len(part),
            "seconds": sum(item.num_samples for item in part) / sampling_rate,
            "recordings": len({item.recording for item in part}),
            "speakers": len({item.speaker for item in part} - {None}),
        }
    return splits


def _report(
    tally: Tally, splits: dict[str, dict[str, Any]], sampling_rate: int, entries: Sequence[ManifestEntry]
) -> dict[str, Any]:
    """The account. `samples` hold exactly: in = kept + the sum of dropped; seconds are samples / sampling_rate."""
    dropped = tally.dropped()
    return {
        "sampling_rate": sampling_rate,
        "clips_in": tally.clips_in,
        "seconds_in": tally.samples_in / sampling_rate,
        "seconds_in_manifest": round(sum(entry.duration for entry in entries), 6),
        "clips_cut": tally.clips_cut,
        "pieces_of_cut_clips": tally.pieces,
        "clips_kept": tally.clips_kept,
        "seconds_kept": tally.samples_kept / sampling_rate,
        "seconds_dropped": sum(samples for _, samples in dropped.values()) / sampling_rate,
        "dropped": {
            reason: {"clips": clips, "seconds": samples / sampling_rate} for reason, (clips, samples) in dropped.items()
        },
        "samples": {
            "in": tally.samples_in,
            "kept": tally.samples_kept,
            "dropped": {reason: samples for reason, (_, samples) in dropped.items()},
        },
        "splits": splits,
    }
