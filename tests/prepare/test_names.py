"""Names and paths as people, archives and other systems write them."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.errors import ManifestError
from runyoro_ssl.plugin.manager import load_plugins
from runyoro_ssl.prepare.manifest import read_manifest
from runyoro_ssl.prepare.pipeline import prepare
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.resolve import load_config
from support.preparation import read_lines

NFC = unicodedata.normalize("NFC", "Joséphine Ngũgĩ")
NFD = unicodedata.normalize("NFD", NFC)


def write_line(folder: Path, encoding: str = "utf-8", **fields: object) -> Path:
    """A manifest of one line."""
    path = folder / "m.jsonl"
    line = json.dumps({"audio_filepath": "a.wav", "duration": 1.0, **fields}, ensure_ascii=False) + "\n"
    path.write_bytes(line.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_manifest_in_any_unicode(tmp_path: Path, encoding: str) -> None:
    """With a byte-order mark and, of UTF-16, without one."""
    (entry,) = read_manifest(write_line(tmp_path, encoding, speaker=NFC))
    assert (entry.audio_filepath, entry.speaker) == ("a.wav", NFC)


@pytest.mark.parametrize("data", [b"\xff\xfe{\x00}", b"\x00\x00\xfe\xff\x00", b"caf\xe9", b"\x89PNG\r\n\x1a\n\x00\xff"])
def test_what_is_no_text_is_one_line(tmp_path: Path, data: bytes) -> None:
    """Half a UTF-16 character, half a UTF-32 one, Latin-1, a picture."""
    (tmp_path / "m.jsonl").write_bytes(data)
    with pytest.raises(ManifestError, match=r"m\.jsonl: not UTF-(8|16|32) at byte \d+ .*; save it as UTF-8") as caught:
        read_manifest(tmp_path / "m.jsonl")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "name"),
    [(12, "12"), (7.0, "7"), (0, "0"), (1.5, "1.5"), (NFD, NFC), (" Akiiki ", "Akiiki"), ("", None), (None, None)],
)
def test_names_are_text_in_one_form(tmp_path: Path, value: object, name: str | None) -> None:
    """Numbers, as pandas writes them, too; blank is none."""
    (entry,) = read_manifest(write_line(tmp_path, speaker=value, recording=value, language=value))
    assert (entry.speaker, entry.recording, entry.language) == (name, name, name)
    assert entry.recording_id == (name or "a.wav")


@pytest.mark.parametrize("value", [True, ["a"], {"a": 1}])
def test_what_is_no_name_is_refused(tmp_path: Path, value: object) -> None:
    """In one line that shows it."""
    with pytest.raises(ManifestError, match=r"line 1: speaker is .*valid string"):
        read_manifest(write_line(tmp_path, speaker=value))


@pytest.mark.parametrize(
    ("written", "real"),
    [
        ("rec\\c.wav", "rec/c.wav"),
        ("rec\\" + NFD + "\\" + NFC + ".wav", f"rec/{NFC}/{NFD}.wav"),
        (f"{NFD}.wav", f"{NFC}.wav"),
        (f"{NFC}.wav", f"{NFD}.wav"),
        ("REC\\C.WAV", "rec/c.wav"),
        ("D:\\fieldwork\\rec\\c.wav", "rec/c.wav"),
        ("\\\\nas\\share\\rec\\c.wav", "rec/c.wav"),
        ("./rec/a%20b.wav", "./rec/a b.wav"),
        ("./rec\\c.wav", "./rec/c.wav"),
    ],
)
def test_path_is_found_however_it_is_spelled(tmp_path: Path, written: str, real: str) -> None:
    """Of Windows, of the other normal form, in per cents."""
    (tmp_path / real).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / real).touch()
    (entry,) = read_manifest(write_line(tmp_path, audio_filepath=written))
    assert (tmp_path / entry.audio_filepath).is_file()
    assert Path(entry.audio_filepath) == Path(real)
    assert entry.recording_id == unicodedata.normalize("NFC", entry.audio_filepath)


def test_home_and_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` and `file://` lead to the file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "mütter und kind.wav"
    file.touch()
    for written in ("~/mütter und kind.wav", file.as_uri(), file.as_uri().replace("file://", "file://localhost")):
        (entry,) = read_manifest(write_line(tmp_path, audio_filepath=written))
        assert Path(entry.audio_filepath) == file


def test_a_file_that_is_called_so_comes_first(tmp_path: Path) -> None:
    """A backslash, a tilde or a per cent sign may be part of a name."""
    for name in ("rec\\c.wav", "~a.wav", "100%25.wav"):
        (tmp_path / name).touch()
        (entry,) = read_manifest(write_line(tmp_path, audio_filepath=name))
        assert entry.audio_filepath == name


def test_two_names_of_one_form_keep_their_files(tmp_path: Path) -> None:
    """Where both are there, each is its own."""
    for name in (NFC, NFD):
        (tmp_path / f"{name}.wav").touch()
        (entry,) = read_manifest(write_line(tmp_path, audio_filepath=f"{name}.wav"))
        assert entry.audio_filepath == f"{name}.wav"


def test_missing_file_says_what_was_tried(tmp_path: Path, tiny_model: Path) -> None:
    """In dropped.jsonl, in one line; the others are used."""
    lines = [{"audio_filepath": "C:\\data\\ã.wav", "duration": 3.0}]
    for name in ("a", "b"):
        sf.write(tmp_path / f"{name}.wav", np.random.default_rng(0).normal(0, 0.1, 48_000), 16_000)
        lines.append({"audio_filepath": f"{name}.wav", "duration": 3.0})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = {
        "prepare": {"manifest_path": tmp_path / "m.jsonl", "output_dir": tmp_path / "out", "split_by": "recording"},
        "model": {"model_name_or_path": str(tiny_model)},
        "plugins": {"filters": []},
        "hardware": {"num_workers": 1},
    }
    config = load_config(flags=flags)
    assert prepare(config, load_plugins(config)).report["clips_kept"] == 2
    (drop,) = read_lines(tmp_path / "out" / "dropped.jsonl")
    assert drop["reason"] == "missing file"
    assert drop["detail"] == (
        'no such file; tried "C:\\data\\ã.wav", "C:/data/ã.wav", "/mnt/c/data/ã.wav", "data/ã.wav", "ã.wav", '
        "in both normal forms of Unicode"
    )


@pytest.mark.parametrize("kind", ["text", "path", "array", "nested", "broken", "speaker"])
def test_line_of_ten_megabytes(tmp_path: Path, kind: str) -> None:
    """It is read, or refused in a line that a person can read."""
    big = "omu kabaka " * 1_000_000
    line = {
        "text": json.dumps({"audio_filepath": "a.wav", "duration": 1, "text": big}),
        "path": json.dumps({"audio_filepath": big, "duration": 1}),
        "speaker": json.dumps({"audio_filepath": "a.wav", "duration": 1, "speaker": big}),
        "array": "[" + ",".join(['{"audio_filepath":"a.wav","duration":1}'] * 250_000) + "]",
        "nested": '{"a":' + 10_000_000 * "[",
        "broken": '{"audio_filepath": "' + big,
    }[kind]
    (tmp_path / "m.jsonl").write_text(line)
    if kind == "text":
        assert len(read_manifest(tmp_path / "m.jsonl")) == 1
        return
    with pytest.raises(ManifestError, match="line 1: ") as caught:
        read_manifest(tmp_path / "m.jsonl")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_one_speaker_in_two_forms_is_one(tmp_path: Path) -> None:
    """A folder's name in NFC beside the same in NFD; recordings are named in NFC, files as they are."""
    for form in ("NFC", "NFD"):
        folder = tmp_path / "in" / unicodedata.normalize(form, "Joséphine")
        folder.mkdir(parents=True)
        for n in range(2):
            sf.write(folder / f"{form}{n}.wav", np.zeros(8_000), 16_000)
    found = scan(tmp_path / "in", tmp_path / "m.jsonl", speaker_from="^([^/]+)/")
    assert (found.num_files, found.num_speakers) == (4, 1)
    entries = read_manifest(tmp_path / "m.jsonl")
    assert {entry.speaker for entry in entries} == {unicodedata.normalize("NFC", "Joséphine")}
    assert {str(entry.recording) for entry in entries} == {
        unicodedata.normalize("NFC", f"Joséphine/{form}{n}.wav") for form in ("NFC", "NFD") for n in range(2)
    }
    assert all((tmp_path / entry.audio_filepath).is_file() for entry in entries)
