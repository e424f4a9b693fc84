"""The clips that were chosen, as a dataset like those of `prepare`, with what was measured beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from runyoro_ssl.dataset.layout import CLIPS, DROPPED, FINGERPRINT, FORMAT, PAGE, REPORT, SPLIT_BY
from runyoro_ssl.dataset.read import read_fingerprint, row_places
from runyoro_ssl.disk.durable import write_json, write_jsonl
from runyoro_ssl.donors.describe import Selection
from runyoro_ssl.donors.found import Donors
from runyoro_ssl.donors.lines import clip_lines
from runyoro_ssl.donors.page import DONORS_PAGE, write_donors_page
from runyoro_ssl.donors.pools import Candidates, Pool
from runyoro_ssl.donors.request import DonorsRequest
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.page.amounts import plural
from runyoro_ssl.prepare.accounts import ClipRecord, Tally
from runyoro_ssl.prepare.dividing import StoredClip, divide
from runyoro_ssl.prepare.page.write import write_page
from runyoro_ssl.prepare.report import build_report, clip_rows
from runyoro_ssl.prepare.saving import save_clips, waveforms_of
from runyoro_ssl.prepare.shards.origin import RECORDED, versions
from runyoro_ssl.prepare.shards.shard import cannot_write
from runyoro_ssl.prepare.shards.store import check_replaceable

DONORS, SIMILARITIES = "donors.json", "similarities.jsonl"
"""What was found; and a line for each clip of the pools, chosen or not."""


def check_output(output_dir: Path, *, overwrite: bool) -> None:
    """Refuse to replace anything but donors that were written here, and those unless asked.

    Raises:
        ConfigError: It holds something else, or was not asked for.
    """
    check_replaceable(output_dir, overwrite=True)
    if not (output_dir / FINGERPRINT).is_file():
        return
    if not (output_dir / DONORS).is_file():
        raise ConfigError(f"{output_dir} holds a dataset that `invoke donors` did not write; give another --output-dir")
    check_replaceable(output_dir, overwrite=overwrite)


def refuse_overlap(output_dir: Path, datasets: Sequence[Path]) -> None:
    """Refuse to write where something is read, or into it, or around it.

    Raises:
        ConfigError: Names the dataset.
    """
    output = output_dir.resolve()
    for path in datasets:
        place = path.resolve()
        if output == place or place in output.parents or output in place.parents:
            raise ConfigError(f"--output-dir {output_dir} is, or holds, or is in the dataset {path}; give another one")


def write_dataset(request: DonorsRequest, found: Donors, selection: Selection, finished: Path) -> Donors:
    """Write the chosen clips into a new folder, held out by speakers or recordings as `prepare` does.

    Raises:
        DatasetError: A pool is damaged, a split would be empty, or the disk is full.
    """
    candidates, chosen, rate = selection.candidates, selection.chosen, selection.rate
    tally = Tally()
    clips = _stored(candidates, chosen, tally)
    settings = request.prepare.model_copy(update={"manifest_path": "the chosen clips"})
    division = divide(clips, tally, settings, rate)
    records = [clip.record for clip in division.clips]
    seconds = sum(clip.record.num_samples for clip in clips) / rate
    report = build_report(tally, records, rate, seconds, split_by=division.by, split_warnings=division.warnings)
    lost = [f"{plural(len(tally.drops), 'clip')} would be held out, and cannot be judged: left out"] * bool(tally.drops)
    found = replace(found, warnings=(*found.warnings, *lost, *division.warnings), report=report)
    try:
        digest = save_clips(division.clips, finished, num_workers=request.hardware.num_workers)
        write_json(finished / REPORT, report)
        write_jsonl(finished / DROPPED, (vars(drop) for drop in tally.drops))
        write_jsonl(finished / CLIPS, clip_rows(records, rate))
        write_jsonl(finished / SIMILARITIES, _similarities(selection))
        write_json(finished / DONORS, _record(found))
        write_json(finished / FINGERPRINT, _fingerprint(request, found, candidates.pools, digest))
        waveforms = waveforms_of(finished, rate)
        write_page(finished / PAGE, report, records, waveforms, title=found.output_dir.name)
        write_donors_page(finished / DONORS_PAGE, found, selection.measured.clips, chosen)
    except OSError as error:
        shutil.rmtree(finished, ignore_errors=True)
        raise cannot_write(finished, error) from None
    return found


def _record(found: Donors) -> dict[str, Any]:
    """What was found, but for the dataset's report, which has a file of its own."""
    record = {name: value for name, value in asdict(found).items() if name != "report"}
    return {**record, "output_dir": str(found.output_dir)}


def _stored(candidates: Candidates, chosen: np.ndarray, tally: Tally) -> list[StoredClip]:
    """The chosen clips, with all that their pools know of them; counted in the tally."""
    clips: list[StoredClip] = []
    for number, pool in enumerate(candidates.pools):
        wanted = np.flatnonzero((candidates.pool == number) & chosen)
        rows = dict(zip(candidates.row[wanted].tolist(), wanted.tolist(), strict=True))
        places = list(row_places(pool.split))
        for row, line in clip_lines(pool):
            if row not in rows:
                continue
            at = rows[row]
            record = ClipRecord(
                id=line.id,
                source=line.audio_filepath,
                recording=line.recording,
                speaker=line.speaker,
                language=line.language,
                licence=line.licence,
                offset_sec=line.offset,
                num_samples=int(candidates.num_samples[at]),
                crc32=int(candidates.crc32[at]),
                measures=line.measures,
                gain=line.gain,
            )
            clips.append(StoredClip(record, f"{pool.path.resolve()}/{record.source}", places[row]))
    tally.lines_in = len({(clip.file, clip.record.recording) for clip in clips})
    tally.clips_kept = len(clips)
    tally.samples_in = tally.samples_kept = sum(clip.record.num_samples for clip in clips)
    return clips


def _similarities(selection: Selection) -> Iterator[dict[str, Any]]:
    """A line for each clip of the pools."""
    candidates, at = selection.candidates, 0
    for pool in candidates.pools:
        for name in pool.column("id"):
            similarity = float(selection.measured.clips[at])
            speaker = int(candidates.speaker[at])
            yield {
                "pool": pool.name,
                "id": name,
                "language": candidates.languages[candidates.language[at]],
                "speaker": candidates.speakers[speaker] if speaker >= 0 else None,
                "seconds": round(int(candidates.num_samples[at]) / selection.rate, 3),
                "similarity": None if np.isnan(similarity) else round(similarity, 4),
                "chosen": bool(selection.chosen[at]),
            }
            at += 1


def _fingerprint(request: DonorsRequest, found: Donors, pools: Sequence[Pool], digest: str) -> dict[str, Any]:
    """What the dataset was made from, and how, as readers of prepared datasets look for it."""
    theirs = [read_fingerprint(pool.path) for pool in pools]
    longest = max(float(one.get("settings", {}).get("max_duration_sec", 0.0)) for one in theirs)
    origin = {
        "target_content_sha256": read_fingerprint(request.target)["content_sha256"],
        "pools_content_sha256": [one["content_sha256"] for one in theirs],
        "hours": request.hours,
        "base": found.base,
        "heard_as": found.heard_as,
        "num_units": found.num_units,
        "max_speaker_share": request.max_speaker_share,
        "max_target_minutes": request.max_target_minutes,
        "seed": request.seed,
    }
    return {
        "format": FORMAT,
        "sha256": hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest(),
        "sampling_rate": found.report["sampling_rate"],
        "settings": {"max_duration_sec": longest},
        "donors": origin,
        "written_with": versions(RECORDED),
        "splits": found.report["splits"],
        SPLIT_BY: found.report["split_by"],
        "unsettled": [],
        "content_sha256": digest,
    }
