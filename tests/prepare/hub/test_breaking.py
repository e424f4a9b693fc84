"""What a hub refuses, and what breaks on the way: one line each, and the next run goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.hub_datasets import contents, lines_of, put_speech
from support.hub_double import SIGNATURE, Fault, HubDouble
from support.hub_fixtures import Visitor

Rows = list[dict[str, Any]]
RunTask = Callable[[str], tuple[int, str, str]]
TOKEN = "a-token-of-nobody-0123456789"  # noqa: S105 - of a double


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
    visitor: Visitor,
    monkeypatch: pytest.MonkeyPatch,
    *,
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
    told = visitor.complaint("hf://org/speech")
    assert said in told
    assert "`hf auth login`" in told or gate == "ask"
    assert TOKEN not in told
    assert any(TOKEN in (one.token or "") for one in hub.requests) == bool(token)


def test_token_that_is_refused(
    hub: HubDouble, recordings: Rows, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub refuses one that is out of date, or may not read."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    put_speech(hub, recordings)
    hub.faults.append(Fault("/api/datasets/org/speech", status=403))
    said = visitor.complaint("hf://org/speech")
    assert "the hub refuses your token (403)" in said
    assert "`hf auth login`" in said


def test_token_is_written_nowhere(
    hub: HubDouble, recordings: Rows, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, run_task: RunTask
) -> None:
    """It opens the gate, and is in no file of the dataset, of what is beside it, and in no line."""
    put_speech(hub, recordings)
    hub.gated["org/speech"] = "log in"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    status, out, err = run_task(f"{visitor.command('hf://org/speech')} --set plugins.filters=[]")
    assert (status, TOKEN in out + err) == (0, False)
    assert (visitor.folder / "dataset").is_dir()
    for path in visitor.folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


FAULTS = {
    "cut": (Fault("/elsewhere/.*train", cut_after=300_000), "the connection broke off ("),
    "no answer": (Fault("/elsewhere/.*train", stall_sec=2.0), "the connection broke off ("),
    "in trouble": (Fault("/elsewhere/.*train", status=503), "the hub is in trouble (503); wait, and run the same"),
    "too many": (Fault("/elsewhere/.*train", status=429), "the hub asks for patience (429, too many requests)"),
    "at the door": (Fault("/api/datasets/org/speech", status=500), "the hub is in trouble (500)"),
    "gone": (Fault("/elsewhere/.*train", status=404), "cannot be loaded ("),
    "a file refused": (Fault("/elsewhere/.*train", status=403), "the hub has no such dataset, or it is private"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("settings", [[], ["prepare.max_hours=1"]], ids=["fetched", "streamed"])
def test_download_that_breaks(
    hub: HubDouble,
    recordings: Rows,
    visitor: Visitor,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    settings: list[str],
) -> None:
    """One line; the next time all is there, whether it is fetched or streamed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    put_speech(hub, recordings)
    fault, said = FAULTS[name]
    hub.faults = [Fault(**vars(fault))]
    told = visitor.complaint("hf://org/speech", *settings)
    assert said in told
    assert SIGNATURE not in told
    hub.faults.clear()
    fetched = contents(visitor.fetch("hf://org/speech", *settings))
    assert sorted(fetched) == sorted(row["audio"]["bytes"] for row in recordings[:-8])


def test_broken_download_is_resumed(
    hub: HubDouble, recordings: Rows, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run asks for the rest of the file, and for no file again that is whole."""
    monkeypatch.setattr("runyoro_ssl.prepare.hub.files.BLOCK_BYTES", 100_000)
    folder = put_speech(hub, recordings)
    second = folder / "data" / "train-00001-of-00002.parquet"
    hub.faults.append(Fault("/elsewhere/.*train-00001", skip=4, cut_after=50_000))
    visitor.complaint("hf://org/speech")
    hub.faults.clear()
    hub.requests.clear()
    assert contents(visitor.fetch("hf://org/speech")) == [row["audio"]["bytes"] for row in recordings[:-8]]
    assert hub.sent("/elsewhere/.*train-00001") == second.stat().st_size - 400_000
    assert hub.sent("/elsewhere/.*train-00000") < 70_000  # the end of the file: which columns there are
    assert not list(visitor.folder.rglob("*.files"))


def test_damaged_file_is_removed(
    hub: HubDouble, recordings: Rows, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash has left in the middle of a file does not reach the dataset."""
    monkeypatch.setattr("runyoro_ssl.prepare.hub.files.BLOCK_BYTES", 100_000)
    put_speech(hub, recordings)
    hub.faults.append(Fault("/elsewhere/.*train-00001", skip=4, status=503))
    visitor.complaint("hf://org/speech")
    hub.faults.clear()
    (part,) = visitor.folder.rglob("*.part")
    part.write_bytes(bytes(part.stat().st_size))
    assert "train-00001-of-00002.parquet came damaged, and is removed; run the same again" in visitor.complaint(
        "hf://org/speech"
    )
    assert len(lines_of(visitor.fetch("hf://org/speech"))) == 16


def test_offline_it_is_what_was_loaded_before(
    hub: HubDouble, recordings: Rows, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `datasets`, anywhere on this machine; of its revision nothing is known."""
    from datasets import Dataset, config, load_dataset

    put_speech(hub, recordings)
    assert isinstance(load_dataset("org/speech", split="test", cache_dir=str(config.HF_DATASETS_CACHE)), Dataset)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    manifest = visitor.fetch("hf://org/speech?split=test")
    assert contents(manifest) == [row["audio"]["bytes"] for row in recordings[-8:]]
    assert "tells no revision" in visitor.complaint("hf://org/speech?split=test&revision=v1")
    assert 'no split "trial"' in visitor.complaint("hf://org/speech?split=trial")
    assert not hub.requests


def test_online_nothing_older_is_taken(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """What `datasets` loaded before may be another revision: if the hub fails, that is said."""
    from datasets import config, load_dataset

    put_speech(hub, recordings)
    load_dataset("org/speech", split="train", cache_dir=str(config.HF_DATASETS_CACHE))
    hub.faults.append(Fault("/api/datasets/org/speech/tree", status=503))
    hub.faults.append(Fault("/api/datasets/org/speech/revision", status=503))
    put_speech(hub, recordings[::-1])
    (hub.folder("org/speech") / "README.md").write_text("# Other speech")
    assert "the hub is in trouble (503)" in visitor.complaint("hf://org/speech")


def test_wrong_bytes_are_told(hub: HubDouble, visitor: Visitor) -> None:
    """A file that is no parquet."""
    (hub.folder("org/speech") / "train.parquet").write_bytes(b"no parquet at all")
    assert "cannot be loaded (ArrowInvalid" in visitor.complaint("hf://org/speech")


def test_nothing_of_a_library_is_shown(hub: HubDouble, recordings: Rows, visitor: Visitor, tmp_path: Path) -> None:
    """A process of its own: no warning, no traceback; one line, without the token; status 1; no dataset appears."""
    put_speech(hub, recordings)
    hub.faults.append(Fault("/elsewhere/.*train", cut_after=1_000, times=1))  # of which the client warns
    hub.faults.append(Fault("/elsewhere/.*train", status=403))
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN}
    command = [sys.executable, "-m", "runyoro_ssl", *visitor.command("hf://org/speech").split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the hub refuses your token (403)" in " ".join(done.stderr.split())
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error")
    assert not any(word in done.stderr for word in (TOKEN, "Traceback", "etry", "WARNING", "rror while"))
    assert len(" ".join(lines)) < 400
    assert not (visitor.folder / "dataset").exists()


def test_cache_of_the_hub_is_used(hub: HubDouble, recordings: Rows, visitor: Visitor) -> None:
    """What `hf download` has fetched is not fetched again."""
    from huggingface_hub import snapshot_download

    put_speech(hub, recordings)
    snapshot_download("org/speech", repo_type="dataset")
    hub.requests.clear()
    assert len(lines_of(visitor.fetch("hf://org/speech"))) == 16
    assert hub.sent("/elsewhere/") < 70_000
