"""Files of settings and of records that are none, or have no end: refused at once, wherever one is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runyoro_ssl.dataset.layout import FINGERPRINT
from runyoro_ssl.dataset.read import read_fingerprint
from runyoro_ssl.disk.durable import MANIFEST, verify
from runyoro_ssl.errors import CheckpointError, DatasetError, TrainingError
from runyoro_ssl.evaluate.heard.trained_on import replayed, run_setting
from runyoro_ssl.model.source import RESULT_FILE, RUN_FILE
from runyoro_ssl.publish.facts import read_facts
from runyoro_ssl.publish.runs import read_run
from runyoro_ssl.small_files import read_object, read_small
from runyoro_ssl.train.checkpoints.format import STATE, load_state

MAKE: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "100 GB": lambda path: path.open("w").truncate(10**11),
    "a number of 5000 digits": lambda path: path.write_text('{"format": ' + "9" * 5000 + "}"),
    "no UTF-8": lambda path: path.write_bytes(b"\xff{}"),
}


@pytest.mark.parametrize("kind", MAKE)
def test_what_has_no_end_is_not_read(tmp_path: Path, kind: str) -> None:
    """The state of a checkpoint, its manifest, the fingerprint of a dataset: a line each, and no memory is taken."""
    for name in (STATE, MANIFEST, FINGERPRINT):
        MAKE[kind](tmp_path / name)
    with pytest.raises(CheckpointError, match=r"trainer_state.json is no JSON \(.{1,200}\); give another one"):
        load_state(tmp_path)
    assert "no readable MANIFEST.json" in (verify(tmp_path) or "")
    with pytest.raises(DatasetError, match=r"fingerprint.json"):
        read_fingerprint(tmp_path)


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_a_manifest_of_pipes_is_no_seal(tmp_path: Path, kind: str) -> None:
    """What it names is a file of as many bytes, or damaged; a pipe and a device have none."""
    MAKE[kind](tmp_path / STATE)
    (tmp_path / MANIFEST).write_text(json.dumps({"files": {STATE: {"bytes": 0, "sha256": "0"}}}, indent=2))
    assert verify(tmp_path, needs=(STATE,)) == f"{STATE} is no file, as {MANIFEST} says"


def test_a_small_file_is_its_text(tmp_path: Path) -> None:
    """As it is, letters of any writing included."""
    (tmp_path / "small").write_text("ŋ\n", encoding="utf-8")
    assert read_small(tmp_path / "small") == "ŋ\n"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "[1]", "it holds list, no object"),
        ("a.json", "{", "Expecting property name"),
        ("a.toml", "a = " + "[" * 100_000, "nested too deeply"),
        ("a.toml", "train = 5", "train is no table of settings"),
        ("a.toml", "[train", "Expected"),
    ],
)
def test_what_is_no_object_is_said(tmp_path: Path, name: str, text: str, why: str) -> None:
    """By one kind of error, whatever is wrong."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=why):
        read_object(tmp_path / name)


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_a_run_that_is_damaged_is_still_listed(tmp_path: Path, kind: str) -> None:
    """Its settings or its result cannot be read, and nobody waits for them: others are listed beside it."""
    for name in (RESULT_FILE, RUN_FILE):
        MAKE[kind](tmp_path / name)
    assert read_run(tmp_path).state == "begun, nothing saved"
    assert run_setting(tmp_path, "train", "language") is None
    assert replayed(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        (RESULT_FILE, '{"sources": [5]}', r"sources is \[5\]"),
        (RESULT_FILE, "[" * 100_000, "nested too deeply"),
        (RUN_FILE, "train = 5", "train is no table"),
        (RUN_FILE, '[train]\nlearning_rate = "much"', "train.learning_rate is 'much', and no number"),
    ],
)
def test_no_card_is_made_of_damaged_files(tmp_path: Path, name: str, text: str, why: str) -> None:
    """They are named, with what writes them anew."""
    (tmp_path / RESULT_FILE).write_text("{}")
    (tmp_path / name).write_text(text)
    with pytest.raises(TrainingError, match=f"{name}: is damaged .*{why}.*remove it"):
        read_facts(tmp_path)
