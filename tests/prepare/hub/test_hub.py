"""Datasets of a hub: `datasets` and its client ask a double of it, over the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl.config import Config
from runyoro_ssl.dataset.layout import CLIPS
from runyoro_ssl.errors import ManifestError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.hub.fetch import local_manifest
from runyoro_ssl.prepare.pipeline import prepare
from support.hub_datasets import CARD, put_speech, write_parquet
from support.hub_double import Fault, HubDouble

Rows = list[dict[str, Any]]
Make = Callable[..., Config]
TOKEN = "a-token-of-nobody-0123456789"  # noqa: S105 - of a double


def lines_of(manifest: Path) -> list[dict[str, Any]]:
    """The lines of a manifest."""
    return [json.loads(line) for line in manifest.open(encoding="utf-8")]


def contents(manifest: Path) -> list[bytes]:
    """The recordings of a manifest, as they are."""
    return [(manifest.parent / line["audio_filepath"]).read_bytes() for line in lines_of(manifest)]


def complaint(config: Config, downloads: Path) -> str:
    """What is said of a dataset that cannot be had: one line, and nothing of a library's own."""
    with pytest.raises(ManifestError) as raised:
        local_manifest(config, downloads)
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith(f"{config.prepare.manifest_path.split('?')[0]}?")
    return said


def test_split_alone_is_fetched(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """Every row of it in its order, the bytes as they are; of the other split not one byte."""
    put_speech(hub, recordings)
    manifest = local_manifest(configured("hf://org/speech?split=train"), tmp_path)
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings[:-8]]
    assert [line["speaker"] for line in lines_of(manifest)] == [row["speaker_id"] for row in recordings[:-8]]
    assert hub.sent("test-00000") == 0
    assert hub.sent("/elsewhere/.*train") > sum(map(len, contents(manifest)))
    assert not hub.asked("test-00000")


def test_two_splits(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """In the order in which they are named."""
    put_speech(hub, recordings)
    manifest = local_manifest(configured("hf://org/speech?split=test+train"), tmp_path)
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings[-8:] + recordings[:-8]]


def test_licence_of_the_card_ends_in_clips(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """And that of the row, where it has one, in its place."""
    folder = put_speech(hub, recordings)
    rows = [{**row, "license": "cc0-1.0" if index % 2 else None} for index, row in enumerate(recordings)]
    write_parquet(folder / "data" / "validation-00000-of-00001.parquet", rows)
    config = configured("hf://org/speech?split=validation")
    prepare(config, load_plugins(config))
    clips = [json.loads(line) for line in (tmp_path / "dataset" / CLIPS).open(encoding="utf-8")]
    licences = {clip["audio_filepath"]: clip["licence"] for clip in clips}
    assert len(licences) == 24
    assert all(licence == ("cc0-1.0" if int(Path(name).stem) % 2 else "cc-by-4.0") for name, licence in licences.items())


@pytest.mark.parametrize(
    ("columns", "option", "taken"),
    [
        (["audio", "whispered"], "", "audio"),
        (["audio", "whispered"], "&column=whispered", "whispered"),
        (["spoken"], "", "spoken"),
    ],
)
def test_column_with_audio(
    hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path, columns: list[str], option: str, taken: str
) -> None:
    """The named one; else the only one, or that called audio."""
    rows = [
        {name: recordings[(index + shift) % 24]["audio"] for shift, name in enumerate(columns)} for index in range(24)
    ]
    write_parquet(hub.folder("org/speech") / "train.parquet", rows, as_audio=columns)
    manifest = local_manifest(configured(f"hf://org/speech?split=train{option}"), tmp_path)
    assert contents(manifest) == [row[taken]["bytes"] for row in rows]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("", "several columns hold audio; name one by column=: near, far"),
        ("&column=nera", 'column "nera" is not there or holds no audio (did you mean "near"?); audio is in near, far'),
        ("&column=speaker_id", 'column "speaker_id" is not there or holds no audio; audio is in near, far'),
    ],
)
def test_columns_are_named(
    hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path, option: str, said: str
) -> None:
    """Before anything large is fetched."""
    rows = [{"near": row["audio"], "far": row["audio"], "speaker_id": "a"} for row in recordings * 20]
    write_parquet(hub.folder("org/speech") / "train.parquet", rows, as_audio=["near", "far"])
    assert said in complaint(configured(f"hf://org/speech?split=train{option}"), tmp_path)
    assert hub.sent("/elsewhere/") < 1_000_000 < (hub.folder("org/speech") / "train.parquet").stat().st_size


def test_bytes_and_path_are_audio(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """As they are written by others than `datasets`, whose features say nothing of it."""
    write_parquet(hub.folder("org/speech") / "train.parquet", recordings, as_audio=())
    manifest = local_manifest(configured("hf://org/speech"), tmp_path)
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings]


def test_recording_is_no_name_if_it_is_audio(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """A column of audio may be called what elsewhere is a name."""
    rows = [{"recording": row["audio"]} for row in recordings]
    write_parquet(hub.folder("org/speech") / "train.parquet", rows, as_audio=["recording"])
    assert all("recording" not in line for line in lines_of(local_manifest(configured("hf://org/speech"), tmp_path)))


def test_folder_of_recordings(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """The other layout of the hub: files and a table, of the split that is asked for."""
    for split, rows in (("train", recordings[:8]), ("test", recordings[8:])):
        folder = hub.folder("org/speech") / split
        folder.mkdir()
        for number, row in enumerate(rows):
            (folder / f"{number}.wav").write_bytes(row["audio"]["bytes"])
        table = ["file_name,speaker", *(f"{number}.wav,{row['speaker_id']}" for number, row in enumerate(rows))]
        (folder / "metadata.csv").write_text("\n".join(table))
    manifest = local_manifest(configured("hf://org/speech"), tmp_path)
    assert sorted(contents(manifest)) == sorted(row["audio"]["bytes"] for row in recordings[:8])
    assert not hub.asked("test/.*wav")


def test_path_of_another_file_is_not_followed(
    hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path
) -> None:
    """Neither of this machine nor of another dataset: a row could name what is private."""
    private = tmp_path / "private.wav"
    private.write_bytes(recordings[0]["audio"]["bytes"])
    put_speech(hub, recordings, "org/private")
    other = "hf://datasets/org/private@main/data/test-00000-of-00001.parquet"
    rows = [{"audio": {"bytes": None, "path": path}} for path in (str(private), f"file://{private}", other)]
    write_parquet(hub.folder("org/speech") / "train.parquet", [recordings[0], *rows])
    assert len(lines_of(local_manifest(configured("hf://org/speech"), tmp_path / "downloads"))) == 1


CONFIGURED = "---\nlicense: cc0-1.0\nconfigs:\n" + "".join(
    f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/*.parquet\n" for name in ("nyo", "lug")
) + "---\n"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("", "it has several configurations; name one by config=: nyo, lug"),
        ("?config=nio", 'no configuration "nio" (did you mean "nyo"?); name one by config=: nyo, lug'),
        ("?config=nyo&split=trial", 'no split "trial"'),
    ],
)
def test_configurations_are_listed(
    hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path, option: str, said: str
) -> None:
    """Where none is named and there is no only one, or one that is not there."""
    folder = hub.folder("org/speech")
    (folder / "README.md").write_text(CONFIGURED)
    for name, rows in (("nyo", recordings[:12]), ("lug", recordings[12:])):
        write_parquet(folder / name / "0.parquet", rows)
    assert said in complaint(configured(f"hf://org/speech{option}"), tmp_path)
    manifest = local_manifest(configured("hf://org/speech?config=lug"), tmp_path)
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings[12:]]
    assert not hub.asked("nyo/0.parquet")


def test_splits_are_listed(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """Where another is asked for; nothing is fetched."""
    put_speech(hub, recordings)
    said = complaint(configured("hf://org/speech?split=tset"), tmp_path)
    assert 'no split "tset" (did you mean "test"?); name one by split=: train, test' in said
    assert hub.sent("/elsewhere/") == 0


def test_script_and_the_way_out(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """One line names the branch with what the hub has converted; there, a configuration is a folder."""
    folder = hub.folder("org/speech")
    (folder / "speech.py").write_text("import datasets\n")
    (folder / "README.md").write_text(CARD)
    said = complaint(configured("hf://org/speech?config=lug&split=test"), tmp_path)
    way_out = "hf://org/speech?config=lug&split=test&revision=refs/convert/parquet"
    assert f"its data come by a script, and scripts are not run; take what the hub has converted: '{way_out}'" in said
    converted = hub.folder("org/speech", "refs/convert/parquet")
    write_parquet(converted / "nyo" / "test" / "0000.parquet", recordings[:12])
    write_parquet(converted / "lug" / "train" / "0000.parquet", recordings[:12])
    write_parquet(converted / "lug" / "test" / "0000.parquet", recordings[12:])
    manifest = local_manifest(configured(way_out), tmp_path)
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings[12:]]
    assert {line["licence"] for line in lines_of(manifest)} == {"cc-by-4.0"}
    assert "it has several configurations; name one by config=: lug, nyo" in complaint(
        configured("hf://org/speech?split=test&revision=refs/convert/parquet"), tmp_path
    )


def test_revision(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """Another has other recordings, and a folder of its own."""
    put_speech(hub, recordings)
    write_parquet(hub.folder("org/speech", "v1") / "train.parquet", recordings[:3])
    assert len(lines_of(local_manifest(configured("hf://org/speech?revision=v1"), tmp_path))) == 3
    assert len(lines_of(local_manifest(configured("hf://org/speech"), tmp_path))) == 16
    assert 'no revision "v2"; give a branch, a tag or a commit' in complaint(
        configured("hf://org/speech?revision=v2"), tmp_path
    )


@pytest.mark.parametrize(
    ("gate", "token", "said"),
    [
        (None, None, "the hub has no such dataset, or it is private; check the name, or, if it is private, log in by"),
        (None, TOKEN, "the hub has no such dataset, or it is private; check the name, or, if it is private, log in by"),
        ("log in", None, "it is gated: accept its terms at"),
        ("ask", TOKEN, "it is gated, and you are not among those who are let in (403): ask for access at"),
    ],
)
def test_dataset_that_is_not_shown(
    hub: HubDouble,
    recordings: Rows,
    configured: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gate: Any,
    token: str | None,
    said: str,
) -> None:
    """Absent, private or gated: what to do, and no token in what is said."""
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if gate:
        put_speech(hub, recordings)
        hub.gated["org/speech"] = gate
    told = complaint(configured("hf://org/speech"), tmp_path)
    assert said in told
    assert "`hf auth login`" in told or gate == "ask"
    assert TOKEN not in told
    assert any(TOKEN in (one.token or "") for one in hub.requests) == bool(token)


def test_token_that_is_refused(
    hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub refuses one that is out of date, or may not read."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    put_speech(hub, recordings)
    hub.faults.append(Fault("/api/datasets/org/speech", status=403))
    said = complaint(configured("hf://org/speech"), tmp_path)
    assert "the hub refuses your token (403)" in said
    assert "`hf auth login`" in said


def test_token_is_written_nowhere(
    hub: HubDouble,
    recordings: Rows,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_task: Callable[[str], tuple[int, str, str]],
) -> None:
    """It opens the gate, and is in no file of the dataset, of what is beside it, and in no line."""
    put_speech(hub, recordings)
    hub.gated["org/speech"] = "log in"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    command = f"prepare --manifest-path hf://org/speech --output-dir {tmp_path}/d --model-name-or-path {tiny_model}"
    status, out, err = run_task(f"{command} --set plugins.filters=[]")
    assert (status, TOKEN in out + err) == (0, False)
    for path in (*(tmp_path / "d").rglob("*"), *(tmp_path / "d.shards").rglob("*")):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


FAULTS = {
    "cut": (Fault("/elsewhere/.*train", cut_after=300_000), "the connection broke off ("),
    "no answer": (Fault("/elsewhere/.*train", stall_sec=2.0), "the connection broke off ("),
    "in trouble": (Fault("/elsewhere/.*train", status=503), "the hub is in trouble (503); wait, and run the same"),
    "too many": (Fault("/elsewhere/.*train", status=429), "the hub asks for patience (429, too many requests)"),
    "at the door": (Fault("/api/datasets/org/speech", status=500), "the hub is in trouble (500)"),
    "a file refused": (Fault("/elsewhere/.*train", status=403), "the hub has no such dataset, or it is private"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("hours", ["", "prepare.max_hours=1"])
def test_download_that_breaks(
    hub: HubDouble,
    recordings: Rows,
    configured: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    hours: str,
) -> None:
    """One line; the next time all is there, whether it is fetched or streamed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    put_speech(hub, recordings)
    fault, said = FAULTS[name]
    hub.faults = [Fault(**vars(fault))]
    config = configured("hf://org/speech", *filter(None, [hours]))
    assert said in complaint(config, tmp_path)
    hub.faults.clear()
    assert sorted(contents(local_manifest(config, tmp_path))) == sorted(
        row["audio"]["bytes"] for row in recordings[:-8]
    )


def test_broken_download_is_resumed(
    hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run asks for the rest of the file, and for no file again that is whole."""
    monkeypatch.setattr("runyoro_ssl.prepare.hub.files.BLOCK_BYTES", 100_000)
    folder = put_speech(hub, recordings)
    second = folder / "data" / "train-00001-of-00002.parquet"
    hub.faults.append(Fault("/elsewhere/.*train-00001", skip=4, cut_after=50_000))
    config = configured("hf://org/speech")
    complaint(config, tmp_path)
    hub.faults.clear()
    hub.requests.clear()
    assert contents(local_manifest(config, tmp_path)) == [row["audio"]["bytes"] for row in recordings[:-8]]
    assert hub.sent("/elsewhere/.*train-00001") == second.stat().st_size - 400_000
    assert hub.sent("/elsewhere/.*train-00000") < 70_000  # the end of the file: which columns there are
    assert not list(tmp_path.glob("*.files"))


def test_damaged_file_is_removed(
    hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash has left in the middle of a file does not reach the dataset."""
    monkeypatch.setattr("runyoro_ssl.prepare.hub.files.BLOCK_BYTES", 100_000)
    put_speech(hub, recordings)
    hub.faults.append(Fault("/elsewhere/.*train-00001", skip=4, status=503))
    config = configured("hf://org/speech")
    complaint(config, tmp_path)
    hub.faults.clear()
    (part,) = tmp_path.rglob("*.part")
    part.write_bytes(bytes(part.stat().st_size))
    assert "train-00001-of-00002.parquet came damaged, and is removed; run the same again" in complaint(
        config, tmp_path
    )
    assert len(lines_of(local_manifest(config, tmp_path))) == 16


def test_wrong_bytes_are_told(hub: HubDouble, configured: Make, tmp_path: Path) -> None:
    """A file that is no parquet."""
    (hub.folder("org/speech") / "train.parquet").write_bytes(b"no parquet at all")
    assert "cannot be loaded (ArrowInvalid" in complaint(configured("hf://org/speech"), tmp_path)


def test_nothing_of_a_library_is_shown(
    hub: HubDouble,
    recordings: Rows,
    tiny_model: Path,
    tmp_path: Path,
    run_task: Callable[[str], tuple[int, str, str]],
) -> None:
    """Its warnings and its traceback stay within; status 1; no dataset appears."""
    put_speech(hub, recordings)
    hub.faults.append(Fault("/elsewhere/.*train", cut_after=1_000))
    command = f"prepare --manifest-path hf://org/speech --output-dir {tmp_path}/d --model-name-or-path {tiny_model}"
    status, out, err = run_task(command)
    assert (status, out) == (1, "")
    assert "run the same again: what has come is kept" in " ".join(err.split())
    assert not any(word in err for word in ("Traceback", "retry", "Retry", "WARNING", "Error while"))
    assert len([line for line in err.splitlines() if line and not line.startswith(" ")]) <= 3
    assert not (tmp_path / "d").exists()


def test_cache_of_the_hub_is_used(hub: HubDouble, recordings: Rows, configured: Make, tmp_path: Path) -> None:
    """What `hf download` has fetched is not fetched again."""
    from huggingface_hub import snapshot_download

    put_speech(hub, recordings)
    snapshot_download("org/speech", repo_type="dataset")
    hub.requests.clear()
    assert len(lines_of(local_manifest(configured("hf://org/speech"), tmp_path / "downloads"))) == 16
    assert hub.sent("/elsewhere/") < 70_000
