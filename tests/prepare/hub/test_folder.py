"""Audio datasets in a folder of this machine, in the layouts of the hub; and a hub out of reach."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf

from runyoro_ssl.config import Config
from runyoro_ssl.dataset.read import load_splits
from runyoro_ssl.errors import ManifestError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.hub.fetch import local_manifest
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.resolve import load_config

RATE = 16_000


@pytest.fixture
def hub_dataset(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as on the hub: parquet with encoded audio, and a card with a licence. The fourth row is broken."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Audio, Features, Value

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "org" / "speech"
    (folder / "data").mkdir(parents=True)
    features = Features(
        {"audio": Audio(sampling_rate=RATE), "speaker_id": Value("string"), "sentence": Value("string")}
    )
    paths = sorted(corpus.rglob("*.wav"))[::2]
    rows = [
        {
            "audio": {"bytes": path.read_bytes() if index != 3 else b"broken", "path": path.name},
            "speaker_id": path.parent.name,
            "sentence": f"sentence {index}",
        }
        for index, path in enumerate(paths)
    ]
    for name, part in (("train", rows[:8]), ("test", rows[8:])):
        table = pa.Table.from_pylist(part, schema=features.arrow_schema)
        pq.write_table(table, folder / "data" / f"{name}-00000-of-00001.parquet")
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Speech\n")
    return folder


def config_for(address: str, model: Path, folder: Path) -> Config:
    """Prepare from an address."""
    return load_config(
        settings=['plugins.filters=["duration"]'],
        flags={
            "model": {"model_name_or_path": str(model)},
            "prepare": {"manifest_path": address, "output_dir": folder / "dataset"},
        },
    )


def run(config: Config) -> dict[str, Any]:
    """The report."""
    return prepare(config, load_plugins(config)).report


def test_dataset_of_the_hub(
    hub_dataset: Path, corpus: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes as they are, without torchcodec; columns by their meaning; the licence of the card; broken rows listed."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    report = run(config_for(f"hf://{hub_dataset}", tiny_model, tmp_path))
    assert report["lines_in"] == 7
    assert report["licences"] == {"cc-by-4.0": pytest.approx(report["seconds_kept"])}
    rows = [row for split in load_splits(tmp_path / "dataset", sampling_rate=RATE).values() for row in split]
    row = min(rows, key=lambda row: str(row["source"]))
    path = min(corpus.rglob("*.wav"))
    assert row["audio"] == sf.read(path, dtype="int16")[0].tolist()
    assert row["speaker"] == path.parent.name
    assert json.loads(row["metadata"])["text"] == "sentence 0"
    (rejected,) = (tmp_path / "dataset.shards").rglob("*.rejected.jsonl")
    assert json.loads(rejected.read_text())["row"] == 3


def test_second_run_fetches_nothing(hub_dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The rows are at hand: also when the hub is not, and the dataset is up to date."""
    config = config_for(f"hf://{hub_dataset}?split=train", tiny_model, tmp_path)
    run(config)
    (hub_dataset / "data" / "train-00000-of-00001.parquet").unlink()
    assert prepare(config, load_plugins(config)).up_to_date


def test_fetched_again_it_is_the_same(hub_dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    """With nothing kept beside the dataset, the rows must be fetched to know; they are then told to be the same."""
    config = config_for(f"hf://{hub_dataset}", tiny_model, tmp_path)
    run(config)
    shutil.rmtree(tmp_path / "dataset.shards")
    assert prepare(config, load_plugins(config)).up_to_date


def test_folder_of_recordings(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    """The other layout of the hub: files and a table. `datasets` alone would want torchcodec for it."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    (tmp_path / "folder" / "train").mkdir(parents=True)
    paths = sorted(corpus.rglob("*.wav"))[:8]
    table = ["file_name,speaker,license", *(f"{n}.wav,{path.parent.name},cc0" for n, path in enumerate(paths))]
    (tmp_path / "folder" / "train" / "metadata.csv").write_text("\n".join(table))
    for number, path in enumerate(paths):
        shutil.copy(path, tmp_path / "folder" / "train" / f"{number}.wav")
    report = run(config_for(f"hf://{tmp_path / 'folder'}", tiny_model, tmp_path))
    assert (report["clips_kept"], set(report["licences"])) == (8, {"cc0"})
    assert set(report["speakers"]) == {path.parent.name for path in paths}


def test_split_is_chosen(hub_dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    """By its name in the address."""
    report = run(config_for(f"hf://{hub_dataset}?split=test", tiny_model, tmp_path))
    assert report["lines_in"] == 4


def test_killed_download_is_done_again(hub_dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Recordings without a manifest are not believed."""
    config = config_for(f"hf://{hub_dataset}", tiny_model, tmp_path)
    manifest = local_manifest(config, tmp_path / "downloads")
    before = manifest.read_bytes()
    manifest.unlink()
    (manifest.parent / "0000000.wav").write_bytes(b"half")
    assert local_manifest(config, tmp_path / "downloads").read_bytes() == before


def test_out_of_reach_is_one_line(
    run_task: Callable[[str], tuple[int, str, str]], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, with status 1."""
    monkeypatch.setattr("runyoro_ssl.prepare.hub.libraries.hub_reachable", lambda: False)
    monkeypatch.setattr("runyoro_ssl.hub.failures.hub_reachable", lambda: False)
    started = time.monotonic()
    status, _, err = run_task(
        f"prepare --manifest-path hf://org/no-such --output-dir {tmp_path}/d --model-name-or-path {tiny_model}"
    )
    assert status == 1
    assert "hf://org/no-such?split=train: cannot be loaded" in err
    assert "Offline, only what was fetched before is at hand" in " ".join(err.split())
    assert "Traceback" not in err
    assert not (tmp_path / "d").exists()
    assert time.monotonic() - started < 10


def test_dataset_without_audio(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its columns are named."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.csv").write_text("text\nhello\n")
    with pytest.raises(ManifestError, match="no audio column; its columns are text"):
        run(config_for(f"hf://{tmp_path / 'texts'}", tiny_model, tmp_path))


def test_hours_of_a_folder(
    hub_dataset: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of the hub: so many rows as are needed, drawn; in a folder of their own."""
    monkeypatch.setattr("runyoro_ssl.prepare.hub.fetch.ROWS_AT_FIRST", 2)
    whole = config_for(f"hf://{hub_dataset}", tiny_model, tmp_path)
    part = whole.model_copy(update={"prepare": whole.prepare.model_copy(update={"max_hours": 4 / 3600})})
    manifests = [local_manifest(config, tmp_path / "downloads") for config in (part, whole)]
    seconds = [sum(json.loads(line)["duration"] for line in path.open()) for path in manifests]
    assert 4 <= seconds[0] < seconds[1]
    assert manifests[0].parent != manifests[1].parent


def test_script_in_a_folder(hub_dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Is not run, and there is no branch to go to."""
    (hub_dataset / "speech.py").write_text("import datasets\n")
    with pytest.raises(ManifestError, match="scripts are not run; give the folder of its recordings or parquet files"):
        run(config_for(f"hf://{hub_dataset}", tiny_model, tmp_path))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [{"audio": {"bytes": None, "path": "a.wav"}}, {"audio": None}, {"text": "b"}],
            "none of its rows holds audio|no audio column",
        ),  # by version
        ([{"audio": {"bytes": "UklGRg==", "path": "a.wav"}}], r"cannot be loaded \(TypeError|no audio column"),
        ([{"audio": "a.wav", "text": "b"}], "no audio column; its columns are audio, text"),
        (["{"], r"cannot be loaded \("),
    ],
)
def test_rows_of_text(
    lines: list[Any], said: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON Lines say nothing of their columns, and hold no audio; whatever they hold, it is one line."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "texts").mkdir()
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    (tmp_path / "texts" / "train.jsonl").write_text(text)
    with pytest.raises(ManifestError, match=said) as raised:
        run(config_for(f"hf://{tmp_path / 'texts'}", tiny_model, tmp_path))
    assert "\n" not in str(raised.value)
