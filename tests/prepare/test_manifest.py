"""The manifest: every line is checked, and a wrong one is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.errors import ConfigError, ManifestError
from runyoro_ssl.prepare.manifest import read_manifest
from runyoro_ssl.prepare.scan import scan

GOOD = '{"audio_filepath": "a.wav", "duration": 2.5, "village": "Hoima"}'


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"audio_filepath": "a.wav", "duration": "abc"}', r"line 2: duration is 'abc'"),
        ('{"audio_filepath": "a.wav", "duration": 1e308}', r"line 2: duration is '1e\+308'.*less than"),
        ('{"audio_filepath": "a.wav", "duration": 1, "village": "\\ud800"}', "line 2: holds half a character"),
        ('{"audio_filepath": "a.wav", "duration": -1}', r"line 2: duration is '-1'.*greater than 0"),
        ('{"audio_filepath": "a.wav", "duration": NaN}', r"line 2: duration is 'nan'"),
        ('{"audio_filepath": "a.wav", "duration": true}', "line 2: duration is 'True', value error, expected seconds"),
        ('{"audio_filepath": "a.wav", "duration": 1, "offset": false}', "line 2: offset is 'False'"),
        ('{"audio_filepath": "a.wav"}', r'line 2: no "duration"'),
        ('{"duration": 1}', r'line 2: no "audio_filepath"'),
        ('{"audio_filepath": "a.wav", "duration": 1', "line 2: not JSON"),
        ("[1, 2]", "line 2: expected an object"),
        ("nonsense", "line 2: not JSON"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    """File, number, value, and what to do."""
    path = tmp_path / "m.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(ManifestError, match=complaint) as caught:
        read_manifest(path)
    assert "mend the line" in str(caught.value)


def test_other_fields_are_kept_and_blank_lines_skipped(tmp_path: Path) -> None:
    """Extra fields travel along; a byte-order mark and exotic separators in text do no harm; a blank name is none."""
    path = tmp_path / "m.jsonl"
    second = json.dumps({"audio_filepath": "b\u2028c.wav", "duration": 1, "speaker": " "}, ensure_ascii=False)
    path.write_text(f"\ufeff{GOOD}\n\n{second}\n", encoding="utf-8")
    entries = read_manifest(path)
    assert entries[0].model_extra == {"village": "Hoima"}
    assert (entries[1].audio_filepath, entries[1].speaker) == ("b\u2028c.wav", None)


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"", "empty"), (b"\n\n", "empty"), (b"{}\n\xff{}", "not UTF-8 at byte 3")]
)
def test_unusable_file(tmp_path: Path, content: bytes, complaint: str) -> None:
    """An empty file, or one in an encoding that is not told."""
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=complaint):
        read_manifest(path)


def test_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    """The message is a command."""
    with pytest.raises(ManifestError, match="invoke manifest --audio-dir"):
        read_manifest(tmp_path / "none.jsonl")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three good recordings by two speakers, and a few that are not."""
    folder = tmp_path / "recordings"
    for name in ("akiiki/one.wav", "akiiki/two.flac", "amooti/three, with comma é.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(folder / name, np.zeros(8_000), 16_000)
    (folder / "empty.mp3").touch()
    (folder / "phone.m4a").write_bytes(b"something")
    (folder / "notes.txt").write_text("not audio")
    return folder


def test_scan_lists_good_and_bad(recordings: Path, tmp_path: Path) -> None:
    """Durations are decoded; bad files are listed with reasons; other files are counted."""
    found = scan(recordings, tmp_path / "m.jsonl", speaker_from=r"^(?P<speaker>[^/]+)/")
    assert (found.num_files, found.num_speakers, found.num_other) == (3, 2, 1)
    assert found.rejected_by_reason == {"empty file": 1, "unreadable": 1}
    entries = read_manifest(tmp_path / "m.jsonl")
    assert {entry.speaker for entry in entries} == {"akiiki", "amooti"}
    assert [entry.duration for entry in entries] == [0.5] * 3
    assert all((tmp_path / entry.audio_filepath).is_file() for entry in entries)
    rejected = [json.loads(line) for line in (tmp_path / "m.rejected.jsonl").read_text().splitlines()]
    assert {line["audio_filepath"]: line["reason"] for line in rejected} == {
        "empty.mp3": "empty file",
        "phone.m4a": "unreadable",
        "notes.txt": "not audio",
    }


def test_scan_refuses(recordings: Path, tmp_path: Path) -> None:
    """A missing folder, bad expressions, an output that exists, a folder without audio."""
    (tmp_path / "taken.jsonl").write_text("mine")
    (tmp_path / "void").mkdir()
    attempts: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: scan(tmp_path / "nowhere", tmp_path / "m"), ConfigError, "no such folder"),
        (lambda: scan(recordings, tmp_path / "m", speaker_from="("), ConfigError, "not a regular expression"),
        (lambda: scan(recordings, tmp_path / "m", speaker_from="x"), ConfigError, "has no group"),
        (lambda: scan(recordings, tmp_path / "m", speaker_from="(zzz)"), ConfigError, "matches none of 5 paths"),
        (lambda: scan(recordings, tmp_path / "taken.jsonl"), ConfigError, "--overwrite"),
        (lambda: scan(tmp_path / "void", tmp_path / "m"), ManifestError, "no readable recording"),
        (lambda: scan(recordings, tmp_path, overwrite=True), ConfigError, "give another --output"),
    ]
    for attempt, kind, complaint in attempts:
        with pytest.raises(kind, match=complaint):
            attempt()
    assert (tmp_path / "taken.jsonl").read_text() == "mine"
    assert not (tmp_path / "m").exists()


def test_names_and_links_that_are_not_entered_are_listed(recordings: Path, tmp_path: Path) -> None:
    """A Latin-1 file name, and a linked folder: rejected with a reason, never fatal, never silent."""
    (recordings / "akiiki" / "one.wav").rename(recordings / os.fsdecode(b"ol\xe9.wav"))
    (recordings / "linked").symlink_to(recordings / "amooti")
    found = scan(recordings, tmp_path / "m.jsonl")
    assert found.rejected_by_reason["file name is not UTF-8"] == 1
    assert found.rejected_by_reason["linked folder"] == 1
    assert found.num_files == 2


@pytest.mark.parametrize("group", ["(?P<speaker>kiiki)?", "(?P<speaker>(?:kiiki)?)"])
def test_speaker_is_the_named_group_or_none(recordings: Path, tmp_path: Path, group: str) -> None:
    """An empty named group is no speaker; another group does not stand in for it."""
    scan(recordings, tmp_path / "m.jsonl", speaker_from=rf"^(a){group}(.*)/")
    speakers = {entry.speaker for entry in read_manifest(tmp_path / "m.jsonl")}
    assert speakers == {"kiiki", None}
