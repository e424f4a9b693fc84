"""Datasets of a hub: `datasets` and its client ask a double of it, over the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl.dataset.layout import CLIPS
from runyoro_ssl.dataset.material import describe_material
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.pipeline import prepare
from support.hub_datasets import CARD, contents, lines_of, put_speech, write_parquet
from support.hub_double import HubDouble
from support.hub_fixtures import Visitor

Rows = list[dict[str, Any]]


def test_split_alone_is_fetched(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """Every row of it in its order, the bytes as they are; of the other split not one byte."""
    put_speech(hub, recordings)
    manifest = visitor.fetch("hf://org/speech?split=train")
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings[:-8]]
    assert [line["speaker"] for line in lines_of(manifest)] == [row["speaker_id"] for row in recordings[:-8]]
    assert hub.sent("test-00000") == 0
    assert hub.sent("/elsewhere/.*train") > sum(map(len, contents(manifest)))
    assert not hub.asked("test-00000")


def test_two_splits(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """In the order in which they are named."""
    put_speech(hub, recordings)
    manifest = visitor.fetch("hf://org/speech?split=test+train")
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings[-8:] + recordings[:-8]]


def test_licence_of_the_card_ends_in_clips(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """And that of the row, where it has one, in its place."""
    folder = put_speech(hub, recordings)
    rows = [{**row, "license": "cc0-1.0" if index % 2 else None} for index, row in enumerate(recordings)]
    write_parquet(folder / "data" / "validation-00000-of-00001.parquet", rows)
    config = visitor.configured("hf://org/speech?split=validation")
    prepare(config, load_plugins(config))
    clips = [json.loads(line) for line in (visitor.folder / "dataset" / CLIPS).open(encoding="utf-8")]
    licences = {clip["audio_filepath"]: clip["licence"] for clip in clips}
    assert len(licences) == 24
    made_of = describe_material(visitor.folder / "dataset")
    assert made_of
    assert made_of["hub_dataset"] == "org/speech"
    assert sum(seconds for _, seconds in made_of["licences"]) == pytest.approx(made_of["seconds"])
    assert all(
        licence == ("cc0-1.0" if int(Path(name).stem) % 2 else "cc-by-4.0") for name, licence in licences.items()
    )


@pytest.mark.parametrize(
    ("columns", "option", "taken"),
    [
        (["audio", "whispered"], "", "audio"),
        (["audio", "whispered"], "&column=whispered", "whispered"),
        (["spoken"], "", "spoken"),
    ],
)
def test_column_with_audio(
    hub: HubDouble, recordings: Rows, visitor: Visitor, *, columns: list[str], option: str, taken: str
) -> None:
    """The named one; else the only one, or that called audio."""
    rows = [
        {name: recordings[(index + shift) % 24]["audio"] for shift, name in enumerate(columns)} for index in range(24)
    ]
    write_parquet(hub.folder("org/speech") / "train.parquet", rows, as_audio=columns)
    manifest = visitor.fetch(f"hf://org/speech?split=train{option}")
    assert contents(manifest) == [row[taken]["bytes"] for row in rows]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("", "several columns hold audio; name one by column=: near, far"),
        ("&column=nera", 'column "nera" is not there or holds no audio (did you mean "near"?); audio is in near, far'),
        ("&column=speaker_id", 'column "speaker_id" is not there or holds no audio; audio is in near, far'),
    ],
)
def test_columns_are_named(hub: HubDouble, recordings: Rows, visitor: Visitor, option: str, said: str) -> None:
    """Before anything large is fetched."""
    rows = [{"near": row["audio"], "far": row["audio"], "speaker_id": "a"} for row in recordings * 20]
    write_parquet(hub.folder("org/speech") / "train.parquet", rows, as_audio=["near", "far"])
    assert said in visitor.complaint(f"hf://org/speech?split=train{option}")
    assert hub.sent("/elsewhere/") < 1_000_000 < (hub.folder("org/speech") / "train.parquet").stat().st_size


def test_bytes_and_path_are_audio(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """As they are written by others than `datasets`, whose features say nothing of it."""
    write_parquet(hub.folder("org/speech") / "train.parquet", recordings, as_audio=())
    manifest = visitor.fetch("hf://org/speech")
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings]


def test_recording_is_no_name_if_it_is_audio(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """A column of audio may be called what elsewhere is a name."""
    rows = [{"recording": row["audio"]} for row in recordings]
    write_parquet(hub.folder("org/speech") / "train.parquet", rows, as_audio=["recording"])
    assert all("recording" not in line for line in lines_of(visitor.fetch("hf://org/speech")))


def test_folder_of_recordings(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """The other layout of the hub: files and a table, of the split that is asked for."""
    for split, rows in (("train", recordings[:8]), ("test", recordings[8:])):
        folder = hub.folder("org/speech") / split
        folder.mkdir()
        for number, row in enumerate(rows):
            (folder / f"{number}.wav").write_bytes(row["audio"]["bytes"])
        table = ["file_name,speaker", *(f"{number}.wav,{row['speaker_id']}" for number, row in enumerate(rows))]
        (folder / "metadata.csv").write_text("\n".join(table))
    manifest = visitor.fetch("hf://org/speech")
    assert sorted(contents(manifest)) == sorted(row["audio"]["bytes"] for row in recordings[:8])
    assert not hub.asked("test/.*wav")
    assert len(hub.asked("/elsewhere/.*wav")) == 8
    assert not [one for one in hub.requests if one.method == "POST"]  # its size is not asked of each file


def test_path_of_another_file_is_not_followed(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """Neither of this machine nor of another dataset: a row could name what is private."""
    private = visitor.folder / "private.wav"
    private.parent.mkdir()
    private.write_bytes(recordings[0]["audio"]["bytes"])
    put_speech(hub, recordings, "org/private")
    other = "hf://datasets/org/private@main/data/test-00000-of-00001.parquet"
    rows = [{"audio": {"bytes": None, "path": path}} for path in (str(private), f"file://{private}", other)]
    write_parquet(hub.folder("org/speech") / "train.parquet", [recordings[0], *rows])
    assert len(lines_of(visitor.fetch("hf://org/speech"))) == 1


CONFIGURED = (
    "---\nlicense: cc0-1.0\nconfigs:\n"
    + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/*.parquet\n"
        for name in ("nyo", "lug")
    )
    + "---\n"
)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("", "it has several configurations; name one by config=: nyo, lug"),
        ("?config=nio", 'no configuration "nio" (did you mean "nyo"?); name one by config=: nyo, lug'),
        ("?config=nyo&split=trial", 'no split "trial"'),
    ],
)
def test_configurations_are_listed(hub: HubDouble, recordings: Rows, visitor: Visitor, option: str, said: str) -> None:
    """Where none is named and there is no only one, or one that is not there."""
    folder = hub.folder("org/speech")
    (folder / "README.md").write_text(CONFIGURED)
    for name, rows in (("nyo", recordings[:12]), ("lug", recordings[12:])):
        write_parquet(folder / name / "0.parquet", rows)
    assert said in visitor.complaint(f"hf://org/speech{option}")
    manifest = visitor.fetch("hf://org/speech?config=lug")
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings[12:]]
    assert not hub.asked("nyo/0.parquet")


def test_splits_are_listed(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """Where another is asked for; nothing is fetched."""
    put_speech(hub, recordings)
    said = visitor.complaint("hf://org/speech?split=tset")
    assert 'no split "tset" (did you mean "test"?); name one by split=: train, test' in said
    assert hub.sent("/elsewhere/") == 0


def test_script_and_the_way_out(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """One line names the branch with what the hub has converted; there, a configuration is a folder."""
    folder = hub.folder("org/speech")
    (folder / "speech.py").write_text("import datasets\n")
    (folder / "README.md").write_text(CARD)
    said = visitor.complaint("hf://org/speech?config=lug&split=test")
    way_out = "hf://org/speech?config=lug&split=test&revision=refs/convert/parquet"
    assert f"its data come by a script, and scripts are not run; take what the hub has converted: '{way_out}'" in said
    converted = hub.folder("org/speech", "refs/convert/parquet")
    write_parquet(converted / "nyo" / "test" / "0000.parquet", recordings[:12])
    write_parquet(converted / "lug" / "train" / "0000.parquet", recordings[:12])
    write_parquet(converted / "lug" / "test" / "0000.parquet", recordings[12:])
    manifest = visitor.fetch(way_out)
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings[12:]]
    assert {line["licence"] for line in lines_of(manifest)} == {"cc-by-4.0"}
    assert "it has several configurations; name one by config=: lug, nyo" in visitor.complaint(
        "hf://org/speech?split=test&revision=refs/convert/parquet"
    )


def test_revision(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """Another has other recordings, and a folder of its own."""
    put_speech(hub, recordings)
    write_parquet(hub.folder("org/speech", "v1") / "train.parquet", recordings[:3])
    assert len(lines_of(visitor.fetch("hf://org/speech?revision=v1"))) == 3
    assert len(lines_of(visitor.fetch("hf://org/speech"))) == 16
    assert 'no revision "v2"; give a branch, a tag or a commit' in visitor.complaint("hf://org/speech?revision=v2")
