"""The account of a preparation, and the fingerprint by which `train` knows what it was given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from runyoro_ssl.prepare.clips import ClipFacts, Tally
from runyoro_ssl.prepare.dataset import FORMAT
from runyoro_ssl.prepare.manifest import ManifestEntry, manifest_digest

if TYPE_CHECKING:
    from runyoro_ssl.config import Config
    from runyoro_ssl.plugins import Plugins


def build_report(
    tally: Tally, splits: Mapping[str, Mapping[str, Any]], sampling_rate: int, entries: Sequence[ManifestEntry]
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
        "splits": dict(splits),
    }


def describe_splits(
    clips: Sequence[ClipFacts], held_out: Sequence[bool], sampling_rate: int
) -> dict[str, dict[str, Any]]:
    """Clips, seconds, recordings and speakers of each split."""
    splits = {}
    for name, wanted in (("train", False), ("validation", True)):
        part = [clip for clip, out in zip(clips, held_out, strict=True) if out is wanted]
        splits[name] = {
            "clips": len(part),
            "seconds": sum(clip.num_samples for clip in part) / sampling_rate,
            "recordings": len({clip.recording for clip in part}),
            "speakers": len({clip.speaker for clip in part} - {None}),
        }
    return splits


def describe_origin(
    config: Config, plugins: Plugins, sampling_rate: int, entries: Iterable[ManifestEntry]
) -> dict[str, Any]:
    """Everything that decides the output: input, settings, code of the filters, versions; one digest over it."""
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
        "filters_sha256": plugins.sources("filter"),
        "versions": {name: version(name) for name in ("runyoro_ssl", "soundfile", "soxr", "datasets", "numpy")},
    }
    origin["sha256"] = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    return origin


def content_digest(clips: Sequence[ClipFacts], held_out: Sequence[bool]) -> str:
    """SHA-256 over every clip (id, length, checksum of its samples) and its split: the same data, the same digest."""
    digest = hashlib.sha256()
    for clip, out in zip(clips, held_out, strict=True):
        digest.update(f"{clip.id}\0{clip.num_samples}\0{clip.crc32}\0{out}\n".encode())
    return digest.hexdigest()
