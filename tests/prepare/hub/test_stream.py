"""`prepare.max_hours` of a dataset of the hub: what is drawn, what is fetched for it, and how it goes on."""

from __future__ import annotations

import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
from packaging.version import Version

from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from support.hub_datasets import CARD, write_parquet
from support.hub_double import Fault, HubDouble
from support.hub_fixtures import Visitor

Rows = list[dict[str, Any]]
GROUP = 4
"""Rows of a row group."""
by_row_group = pytest.mark.skipif(
    Version(version("datasets")) < Version("5"), reason="before 5.0, datasets draws whole files of parquet"
)


@pytest.fixture
def large(hub: HubDouble, recordings: Rows, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """192 rows, in 6 files of 8 row groups; each row knows its number, and is 1 s long. Few are taken at once."""
    monkeypatch.setattr("runyoro_ssl.prepare.hub.fetch.ROWS_AT_FIRST", 6)
    monkeypatch.setattr("runyoro_ssl.prepare.hub.fetch.ROWS_AT_ONCE", 6)
    monkeypatch.setattr("runyoro_ssl.prepare.hub.drawing.FILES_AT_ONCE", 3)
    monkeypatch.setattr("runyoro_ssl.prepare.hub.dataset.READ_AHEAD_BYTES", 10_000)
    rows = [_short(recordings[number % 24]) | {"sentence": str(number)} for number in range(192)]
    folder = hub.folder("org/large")
    for number in range(6):
        write_parquet(
            folder / f"train-{number:05d}.parquet", rows[32 * number : 32 * (number + 1)], row_group_size=GROUP
        )
    (folder / "README.md").write_text(CARD)
    return rows


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """The first second of a recording."""
    samples, rate = sf.read(io.BytesIO(row["audio"]["bytes"]), stop=16_000, dtype="int16")
    sf.write(content := io.BytesIO(), samples, rate, format="WAV")
    return {**row, "audio": {**row["audio"], "bytes": content.getvalue()}}


def numbers(manifest: Path) -> list[int]:
    """The rows of a manifest, in their order."""
    return [int(json.loads(line)["text"]) for line in manifest.open(encoding="utf-8")]


def hours(seconds: float) -> str:
    """The setting for so many seconds."""
    return f"prepare.max_hours={seconds / 3600}"


def test_no_more_is_fetched_than_is_needed(hub: HubDouble, large: Rows, visitor: Visitor) -> None:
    """Row groups for the hours, and the ends of a few files: of a whole file, or of all files, nothing."""
    manifest = visitor.fetch("hf://org/large", hours(20))
    taken = numbers(manifest)
    assert len(taken) == 20
    per_group = GROUP * len(large[0]["audio"]["bytes"])
    asked = {request.path for request in hub.asked("/elsewhere/")}
    assert len(asked) <= 4  # three that are drawn from, and the first: which columns there are
    assert hub.sent("/elsewhere/") < 6 * (per_group + 10_000) + 7 * 66_000  # groups; the ends of files, some twice
    rows = [large[number] for number in taken]
    lines = [json.loads(line) for line in manifest.open(encoding="utf-8")]
    assert [line["speaker"] for line in lines] == [row["speaker_id"] for row in rows]
    assert [(manifest.parent / line["audio_filepath"]).read_bytes() for line in lines] == [
        row["audio"]["bytes"] for row in rows
    ]
    assert {line["licence"] for line in lines} == {"cc-by-4.0"}


@by_row_group
@pytest.mark.usefixtures("large")
def test_rows_come_from_all_over(visitor: Visitor) -> None:
    """Row groups are drawn, not read from the start; by the seed, and the same each time."""
    drawn = {seed: numbers(visitor.fetch("hf://org/large", hours(48), f"prepare.seed={seed}")) for seed in ("0", "1")}
    assert drawn["0"] == numbers(visitor.fetch("hf://org/large", hours(48), into="again"))
    assert drawn["0"] != drawn["1"]
    groups = {number // GROUP for number in drawn["0"]}
    assert groups != set(range(min(groups), max(groups) + 1))
    assert len({number // 32 for number in drawn["0"]}) == 3


@pytest.mark.usefixtures("large")
def test_all_come_once_if_the_hours_are_many(visitor: Visitor) -> None:
    """Each row, once, and the end of it is no error."""
    assert sorted(numbers(visitor.fetch("hf://org/large", hours(2_000)))) == list(range(192))


@pytest.mark.usefixtures("large")
def test_part_is_not_the_whole(visitor: Visitor) -> None:
    """Neither of more hours, nor of all."""
    some, more, whole = (numbers(visitor.fetch("hf://org/large", *given)) for given in ([hours(8)], [hours(16)], []))
    assert (len(some), len(more), len(whole)) == (8, 16, 192)
    assert more[:8] == some


@by_row_group
@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("fault", [Fault("", skip=0, cut_after=10_000), Fault("", status=503)])
def test_broken_stream_goes_on(hub: HubDouble, visitor: Visitor, fault: Fault) -> None:
    """Where it was: what has come is not fetched again, and the result is that of a stream that did not break."""
    wanted = ("hf://org/large", hours(48))
    undisturbed = numbers(visitor.fetch(*wanted, into="undisturbed"))
    whole = hub.sent("/elsewhere/")
    hub.faults.append(Fault(**{**vars(fault), "match": "/elsewhere/", "skip": len(hub.asked("/elsewhere/")) // 2}))
    hub.requests.clear()
    assert "run the same again: what has come is kept" in visitor.complaint(*wanted, into="broken")
    before = hub.sent("/elsewhere/")
    hub.faults.clear()
    hub.requests.clear()
    assert numbers(visitor.fetch(*wanted, into="broken")) == undisturbed
    assert before > whole / 4
    assert hub.sent("/elsewhere/") < whole - before / 2


@by_row_group
@pytest.mark.usefixtures("large")
def test_notes_cut_by_a_kill(hub: HubDouble, visitor: Visitor) -> None:
    """Are read as far as they are whole."""
    wanted = ("hf://org/large", hours(48))
    undisturbed = numbers(visitor.fetch(*wanted, into="undisturbed"))
    hub.faults.append(Fault("/elsewhere/", skip=20, status=503))
    visitor.complaint(*wanted, into="killed")
    hub.faults.clear()
    (notes,) = visitor.folder.rglob("arrived.jsonl")
    assert len(notes.read_bytes().splitlines()) > 2
    notes.write_bytes(notes.read_bytes()[:-100])
    assert numbers(visitor.fetch(*wanted, into="killed")) == undisturbed


@by_row_group
def test_another_commit_begins_anew(hub: HubDouble, large: Rows, visitor: Visitor) -> None:
    """Rows of two versions of a dataset are not mixed."""
    wanted = ("hf://org/large", hours(48))
    hub.faults.append(Fault("/elsewhere/", skip=20, status=503))
    visitor.complaint(*wanted)
    hub.faults.clear()
    file = hub.folder("org/large") / "train-00000.parquet"
    write_parquet(file, [{**row, "sentence": str(int(row["sentence"]) + 5_000)} for row in large])
    for other in hub.folder("org/large").glob("train-*.parquet"):
        if other != file:
            other.unlink()
    assert min(numbers(visitor.fetch(*wanted))) >= 5_000


def test_folder_of_recordings_is_drawn_one_by_one(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """Its table is read, and of its files those that are drawn."""
    folder = hub.folder("org/folder")
    for number, row in enumerate(recordings):
        (folder / f"{number}.wav").write_bytes(row["audio"]["bytes"])
    table = ["file_name,speaker,text", *(f"{n}.wav,{row['speaker_id']},{n}" for n, row in enumerate(recordings))]
    (folder / "metadata.csv").write_text("\n".join(table))
    taken = numbers(visitor.fetch("hf://org/folder", hours(9)))
    assert len(taken) == 24  # ROWS_AT_FIRST are more
    assert sorted(taken) == list(range(24)) != taken


@pytest.mark.usefixtures("large")
def test_streamed_dataset_is_prepared(hub: HubDouble, visitor: Visitor) -> None:
    """No more than the hours; the second time nothing is asked for."""
    config = visitor.configured("hf://org/large", hours(40), "prepare.min_duration_sec=0.5")
    report = prepare(config, load_plugins(config)).report
    assert 39 <= report["seconds_kept"] <= 40
    assert report["licences"].keys() == {"cc-by-4.0"}
    hub.requests.clear()
    assert prepare(config, load_plugins(config)).up_to_date
    assert not hub.requests
