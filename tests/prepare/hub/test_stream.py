"""`prepare.max_hours` of a dataset of the hub: what is drawn, what is fetched for it, and how it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.errors import ManifestError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.hub.fetch import local_manifest
from runyoro_ssl.prepare.pipeline import prepare
from support.hub_datasets import CARD, write_parquet
from support.hub_double import Fault, HubDouble

Rows = list[dict[str, Any]]
Make = Callable[..., Config]
GROUP = 8
"""Rows of a row group."""


@pytest.fixture
def large(hub: HubDouble, recordings: Rows, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """960 rows, in 10 files of 12 row groups; each row knows its number. Few are taken at once."""
    monkeypatch.setattr("runyoro_ssl.prepare.hub.fetch.ROWS_AT_ONCE", 4)
    monkeypatch.setattr("runyoro_ssl.prepare.hub.dataset.FILES_DRAWN_AT_ONCE", 3)
    rows = [{**recordings[number % 24], "sentence": str(number)} for number in range(960)]
    folder = hub.folder("org/large")
    for number in range(10):
        write_parquet(folder / f"train-{number:05d}.parquet", rows[96 * number : 96 * (number + 1)], row_group_size=GROUP)
    (folder / "README.md").write_text(CARD)
    return rows


def numbers(manifest: Path) -> list[int]:
    """The rows of a manifest, in their order."""
    return [int(json.loads(line)["text"]) for line in manifest.open(encoding="utf-8")]


def hours(rows: int) -> str:
    """The setting for so many recordings of 2.5 s."""
    return f"prepare.max_hours={2.5 * rows / 3600}"


def test_no_more_is_fetched_than_is_needed(
    hub: HubDouble, large: Rows, configured: Make, tmp_path: Path
) -> None:
    """Row groups for the hours, and the ends of a few files: of a whole file, or of all files, nothing."""
    manifest = local_manifest(configured("hf://org/large", hours(20)), tmp_path)
    taken = numbers(manifest)
    assert 20 <= len(taken) <= 24
    per_group = GROUP * len(large[0]["audio"]["bytes"])
    asked = {request.path for request in hub.asked("/elsewhere/")}
    assert len(asked) == 3
    assert hub.sent("/elsewhere/") < 4 * per_group + 4 * len(asked) * 70_000
    rows = [large[number] for number in taken]
    lines = [json.loads(line) for line in manifest.open(encoding="utf-8")]
    assert [line["speaker"] for line in lines] == [row["speaker_id"] for row in rows]
    assert [(manifest.parent / line["audio_filepath"]).read_bytes() for line in lines] == [
        row["audio"]["bytes"] for row in rows
    ]
    assert {line["licence"] for line in lines} == {"cc-by-4.0"}


def test_rows_come_from_all_over(hub: HubDouble, large: Rows, configured: Make, tmp_path: Path) -> None:
    """Row groups are drawn, not read from the start; by the seed, and the same each time."""
    drawn = {
        seed: numbers(local_manifest(configured("hf://org/large", hours(64), f"prepare.seed={seed}"), tmp_path / seed))
        for seed in ("0", "1")
    }
    assert drawn["0"] == numbers(local_manifest(configured("hf://org/large", hours(64)), tmp_path / "again"))
    assert drawn["0"] != drawn["1"]
    groups = {number // GROUP for number in drawn["0"]}
    assert groups != set(range(min(groups), max(groups) + 1))
    assert len({number // 96 for number in drawn["0"]}) == 3


def test_all_come_once_if_the_hours_are_many(hub: HubDouble, large: Rows, configured: Make, tmp_path: Path) -> None:
    """Each row, once, and the end of it is no error."""
    assert sorted(numbers(local_manifest(configured("hf://org/large", hours(2_000)), tmp_path))) == list(range(960))


def test_part_is_not_the_whole(hub: HubDouble, large: Rows, configured: Make, tmp_path: Path) -> None:
    """Neither of more hours, nor of all."""
    some, more, whole = (
        numbers(local_manifest(configured("hf://org/large", *given), tmp_path))
        for given in ([hours(8)], [hours(16)], [])
    )
    assert (len(some), len(more), len(whole)) == (8, 16, 960)
    assert more[:8] == some


@pytest.mark.parametrize("fault", [Fault("", skip=0, cut_after=10_000), Fault("", status=503)])
def test_broken_stream_goes_on(
    hub: HubDouble, large: Rows, configured: Make, tmp_path: Path, fault: Fault
) -> None:
    """Where it was: what has come is not fetched again, and the result is that of a stream that did not break."""
    config = configured("hf://org/large", hours(64))
    undisturbed = numbers(local_manifest(config, tmp_path / "undisturbed"))
    whole = hub.sent("/elsewhere/")
    hub.faults.append(Fault(**{**vars(fault), "match": "/elsewhere/", "skip": len(hub.asked("/elsewhere/")) // 2}))
    hub.requests.clear()
    with pytest.raises(ManifestError, match="run the same again: what has come is kept"):
        local_manifest(config, tmp_path / "broken")
    before = hub.sent("/elsewhere/")
    hub.faults.clear()
    hub.requests.clear()
    assert numbers(local_manifest(config, tmp_path / "broken")) == undisturbed
    assert before > whole / 4
    assert hub.sent("/elsewhere/") < whole - before / 2


def test_notes_cut_by_a_kill(hub: HubDouble, large: Rows, configured: Make, tmp_path: Path) -> None:
    """Are read as far as they are whole."""
    config = configured("hf://org/large", hours(64))
    undisturbed = numbers(local_manifest(config, tmp_path / "undisturbed"))
    hub.faults.append(Fault("/elsewhere/", skip=20, status=503))
    with pytest.raises(ManifestError):
        local_manifest(config, tmp_path / "killed")
    hub.faults.clear()
    (notes,) = tmp_path.rglob("arrived.jsonl")
    assert len(notes.read_bytes().splitlines()) > 2
    notes.write_bytes(notes.read_bytes()[:-100])
    assert numbers(local_manifest(config, tmp_path / "killed")) == undisturbed


def test_another_commit_begins_anew(hub: HubDouble, large: Rows, configured: Make, tmp_path: Path) -> None:
    """Rows of two versions of a dataset are not mixed."""
    config = configured("hf://org/large", hours(64))
    hub.faults.append(Fault("/elsewhere/", skip=20, status=503))
    with pytest.raises(ManifestError):
        local_manifest(config, tmp_path)
    hub.faults.clear()
    file = hub.folder("org/large") / "train-00000.parquet"
    write_parquet(file, [{**row, "sentence": str(int(row["sentence"]) + 5_000)} for row in large])
    for other in hub.folder("org/large").glob("train-*.parquet"):
        if other != file:
            other.unlink()
    assert min(numbers(local_manifest(config, tmp_path))) >= 5_000


def test_folder_of_recordings_is_drawn_one_by_one(
    hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path
) -> None:
    """Its table is read, and of its files those that are drawn."""
    folder = hub.folder("org/folder")
    for number, row in enumerate(recordings):
        (folder / f"{number}.wav").write_bytes(row["audio"]["bytes"])
    table = ["file_name,speaker,text", *(f"{n}.wav,{row['speaker_id']},{n}" for n, row in enumerate(recordings))]
    (folder / "metadata.csv").write_text("\n".join(table))
    taken = numbers(local_manifest(configured("hf://org/folder", hours(6)), tmp_path / "downloads"))
    assert len(taken) == 24  # ROWS_AT_ONCE are more
    assert sorted(taken) == list(range(24)) != taken


def test_streamed_dataset_is_prepared(hub: HubDouble, large: Rows, configured: Make, tmp_path: Path) -> None:
    """No more than the hours; the second time nothing is asked for."""
    config = configured("hf://org/large", hours(40))
    report = prepare(config, load_plugins(config)).report
    assert 2.5 * 39 <= report["seconds_kept"] <= 2.5 * 40 + 0.1
    assert report["licences"].keys() == {"cc-by-4.0"}
    hub.requests.clear()
    assert prepare(config, load_plugins(config)).up_to_date
    assert not hub.requests
