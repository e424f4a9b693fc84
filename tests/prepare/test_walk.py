"""A folder as people have it: only what they gave is listed, and every other file is counted or named."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from runyoro_ssl.errors import ManifestError
from runyoro_ssl.prepare.manifest import read_manifest
from runyoro_ssl.prepare.probing import look_into
from runyoro_ssl.prepare.scan import scan
from runyoro_ssl.prepare.sniff import what_else
from runyoro_ssl.prepare.walk import walk
from support.preparation import read_lines
from support.recordings import AV_FORMATS, Format, encode, hum

SKIPPED = """
    .Trashes/501/deleted_interview.wav .Trash-1000/files/withdrawn.wav .Trash/a.wav ._ok.wav .hidden.wav
    $RECYCLE.BIN/S-1-5-21/$RABCDEF.wav RECYCLER/a.wav RECYCLED/a.wav FOUND.000/FILE0000.CHK
    #recycle/a.wav @Recycle/a.wav @eaDir/ok.wav@SynoEAStream @tmp/a.wav #snapshot/a.wav @Recently-Snapshot/a.wav
    __MACOSX/._ok.wav lost+found/a.wav LOST.DIR/123 .stversions/a.wav .sync/Archive/a.wav .Spotlight-V100/Store-V2/a.wav
    .fseventsd/0001 .TemporaryItems/a.wav .trashed-1700000000-a.m4a .recycle/a.wav ~snapshot/a.wav .dropbox.cache/a.wav
    .@__thumb/a.wav trashbox/a.wav .thumbnails/a.jpg .git/config desktop.ini Thumbs.db .DS_Store ~$notes.docx
"""


def put(root: Path, name: str, content: bytes = b"") -> Path:
    """A file below a folder."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one recording."""
    sf.write(put(tmp_path, "in/ok.wav"), hum(1, 16_000), 16_000)
    return tmp_path / "in"


def rejected(output: Path) -> dict[str, tuple[str, str]]:
    """What is named beside a manifest: path -> reason and detail."""
    lines = read_lines(output.with_name(f"{output.stem}.rejected.jsonl"))
    return {line["audio_filepath"]: (line["reason"], line["detail"]) for line in lines}


def test_trash_and_bookkeeping_are_skipped_and_counted(folder: Path, tmp_path: Path) -> None:
    """Of macOS, Linux, Windows, NAS and cards, anywhere below; also those two that were handed in."""
    for name in SKIPPED.split():
        shutil.copy(folder / "ok.wav", put(folder, f"card/{name}"))
    shutil.copy(folder / "ok.wav", put(folder, "System Volume Information/a.wav"))
    shutil.copy(folder / "ok.wav", put(folder, "recycled things/Trashy/lost and found/a.wav"))
    found = scan(folder, tmp_path / "m.jsonl")
    assert sorted(str(entry.recording) for entry in read_manifest(tmp_path / "m.jsonl")) == [
        "ok.wav",
        "recycled things/Trashy/lost and found/a.wav",
    ]
    assert found.skipped.total() == len(SKIPPED.split()) + 1
    assert {".Trashes", ".Trash-1000", "$RECYCLE.BIN", "@eaDir", "System Volume Information"} <= found.skipped.keys()
    assert found.rejected == found.others == []


def test_a_hidden_folder_that_is_asked_for_is_walked(folder: Path, tmp_path: Path) -> None:
    """Names count below --audio-dir only."""
    folder.rename(tmp_path / ".Trashes")
    assert scan(tmp_path / ".Trashes", tmp_path / "m.jsonl").num_files == 1


@pytest.mark.parametrize(
    "name",
    [".interview2.m4a.icloud", "talk.gdoc", "sheet.gsheet", "a.wav.nextcloud", "a.mp3.owncloud", "b.cloud", "c.cloudf"],
)
def test_placeholders_are_named(folder: Path, tmp_path: Path, name: str) -> None:
    """By the names that clouds give them."""
    put(folder, f"x/{name}", b"bplist00")
    found = scan(folder, tmp_path / "m.jsonl")
    assert found.rejected_by_reason == {"placeholder": 1}
    assert list(rejected(tmp_path / "m.jsonl")) == [f"x/{name}"]


@pytest.mark.parametrize("name", ["a.wav", "a", "a.m4a"])
def test_names_without_content_are_placeholders(folder: Path, tmp_path: Path, name: str) -> None:
    """A file that has a size and no block; a Git LFS pointer; a link of git-annex."""
    with put(folder, f"1/{name}").open("wb") as file:
        file.truncate(1_000_000)
    put(folder, f"2/{name}", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n")
    (folder / "3").mkdir()
    (folder / "3" / name).symlink_to("../../.git/annex/objects/Xx/9z/SHA256E-s1--aa.wav/SHA256E-s1--aa.wav")
    assert scan(folder, tmp_path / "m.jsonl").rejected_by_reason == {"placeholder": 3}
    details = [detail for _, detail in rejected(tmp_path / "m.jsonl").values()]
    for words in ("1000000 bytes by its name, and none on this disk", "Git LFS pointer of 69 bytes", "git annex get"):
        assert any(words in detail for detail in details), (words, details)


def test_dataless_file_of_macos_is_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flag says so; to read it would fetch it."""

    class Dataless:
        st_flags, st_mode, st_size, st_blocks = 0x40000020, 0o100644, 1_000_000, 0

    monkeypatch.setattr(Path, "stat", lambda *_, **__: Dataless)
    monkeypatch.setattr("runyoro_ssl.prepare.probing.read_head", lambda _: pytest.fail("opened"))
    with pytest.raises(Exception, match="placeholder: the content is in a cloud"):
        look_into(folder / "ok.wav", lambda _: pytest.fail("decoded"))


def test_sparse_recording_is_a_recording(folder: Path, tmp_path: Path) -> None:
    """Silence may take no block; the header does."""
    size = (folder / "ok.wav").stat().st_size
    header = (folder / "ok.wav").read_bytes()[:44]
    with put(folder, "sparse.wav").open("wb") as file:
        file.write(header)
        file.truncate(size)
    assert scan(folder, tmp_path / "m.jsonl").num_files == 2


def test_downloads_that_are_not_done_are_named(folder: Path, tmp_path: Path) -> None:
    """What is there of them would pass for the whole."""
    for name in ("a.mp3.crdownload", "b.wav.part", "c.m4a.partial"):
        shutil.copy(folder / "ok.wav", folder / name)
    assert scan(folder, tmp_path / "m.jsonl").rejected_by_reason == {"unfinished download": 3}


def test_unusual_names_are_decided_by_content(tmp_path: Path) -> None:
    """A camcorder's .MTS, NIST .sph, .3ga, a voice note and others without extension, a date for an extension."""
    wave = hum(2, 48_000)
    folder = tmp_path / "in"
    folder.mkdir()
    encode(folder / "camcorder.MTS", wave, Format("ac3", "mpegts", 48_000, with_video=True))
    encode(folder / "samsung.3ga", hum(2, 8_000), AV_FORMATS["phone.amr"])
    sf.write(folder / "corpus.sph", wave, 48_000, format="NIST", subtype="PCM_16")
    sf.write(folder / "PTT-20240101-WA0001", wave, 48_000, format="OGG", subtype="OPUS")
    sf.write(folder / "interview 3.Feb", wave, 48_000, format="WAV")
    sf.write(folder / "tape.bak", wave, 48_000, format="MP3")
    found = scan(folder, tmp_path / "m.jsonl")
    assert (found.num_files, found.rejected, found.others) == (6, [], [])
    assert all(abs(entry.duration - 2) < 0.1 for entry in read_manifest(tmp_path / "m.jsonl"))


OTHERS = {
    "notes.txt": ("text", b"Omukazi akagamba ngu\n"),
    "transcript": ("text", "Ngũgĩ wa Thiong'o\n".encode() * 500),
    "latin1.csv": ("text", "café;señor\n".encode("latin-1") * 50),
    "utf16.TextGrid": ("text", "File type\n".encode("utf-16")),
    "page.jpg": ("a picture", b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(100)),
    "page.heic": ("a picture", b"\0\0\0\x18ftypheic" + bytes(100)),
    "scan.webp": ("a picture", b"RIFF\x10\0\0\0WEBPVP8 " + bytes(100)),
    "all.zip": ("an archive or Office document", b"PK\x03\x04" + bytes(100)),
    "all.tar": ("an archive", b"a.wav".ljust(257, b"\0") + b"ustar\0" + bytes(100)),
    "all.7z": ("an archive", b"7z\xbc\xaf\x27\x1c" + bytes(100)),
    "consent.pdf": ("a document", b"%PDF-1.7\n\xb5\xb6" + bytes(100)),
    "old.doc": ("a document", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100)),
    "tune.mid": ("notes (MIDI), no sound", b"MThd\0\0\0\x06" + bytes(100)),
    "tool": ("a program", b"\x7fELF\x02" + bytes(100)),
    "empty.log": ("0 bytes", b""),
    "noise.bin": ("no audio found in it, or it is damaged", np.random.default_rng(0).bytes(50_000)),
}


def test_what_is_no_audio_is_named_by_what_it_is(
    folder: Path, tmp_path: Path, run_task: Callable[[str], tuple[int, str, str]]
) -> None:
    """Each in the list, with what it is; in the table by extension."""
    for name, (_, content) in OTHERS.items():
        put(folder, name, content)
    status, out, _ = run_task(f"manifest --audio-dir {folder} --output {tmp_path / 'm.jsonl'}")
    assert status == 0
    assert rejected(tmp_path / "m.jsonl") == {name: ("not audio", words) for name, (words, _) in OTHERS.items()}
    for row in ("not audio: none", "not audio: .txt", "other extensions"):
        assert row in out


def test_an_archive_is_not_handed_to_a_decoder(folder: Path) -> None:
    """Its first bytes are enough, whatever its size."""
    path = put(folder, "all.zip", b"PK\x03\x04")
    with path.open("r+b") as file:
        file.truncate(4 << 30)
    with pytest.raises(Exception, match="not audio: an archive"):
        look_into(path, lambda _: pytest.fail("decoded"))


@pytest.mark.parametrize("name", sorted(AV_FORMATS))
def test_recordings_are_not_taken_for_anything_else(tmp_path: Path, name: str) -> None:
    """Every format that is written here begins like none of the others."""
    encode(tmp_path / name, hum(1, AV_FORMATS[name].rate, AV_FORMATS[name].channels), AV_FORMATS[name])
    assert what_else((tmp_path / name).read_bytes()[:4096]) is None


def test_pipes_sockets_and_devices_are_named_and_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO would wait for ever; a link to one, and to a device, too; nor in trash."""
    os.mkfifo(folder / "pipe.wav")
    (folder / ".Trashes").mkdir()
    os.mkfifo(folder / ".Trashes" / "pipe.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")
    (folder / "linked.wav").symlink_to("pipe.wav")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.wav")
        found = walk(folder)
    assert {one.path: (one.reason.value, one.detail) for one in found.refused} == {  # type: ignore[attr-defined]
        "linked.wav": ("no ordinary file", "a link to a pipe (FIFO)"),
        "pipe.wav": ("no ordinary file", "a pipe (FIFO)"),
        "socket.wav": ("no ordinary file", "a socket"),
        "zero.wav": ("no ordinary file", "a link to a device"),
    }
    assert [path.name for path in found.files] == ["ok.wav"]


def test_links(folder: Path, tmp_path: Path) -> None:
    """To a file outside: taken. To a listed one, to nothing, in a circle, to a folder: named; nothing comes twice."""
    shutil.copy(folder / "ok.wav", tmp_path / "outside.wav")
    (folder / "a.wav").symlink_to(tmp_path / "outside.wav")
    (folder / "again.wav").symlink_to(tmp_path / "outside.wav")
    (folder / "0.wav").symlink_to("ok.wav")
    (folder / "gone.wav").symlink_to("nowhere.wav")
    (folder / "circle.wav").symlink_to("circle.wav")
    (folder / "loop").symlink_to(folder)
    found = scan(folder, tmp_path / "m.jsonl")
    assert [entry.recording for entry in read_manifest(tmp_path / "m.jsonl")] == ["a.wav", "ok.wav"]
    assert found.rejected_by_reason == {"missing file": 2, "linked folder": 1, "linked file": 2}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_folder_that_may_not_be_listed(folder: Path, tmp_path: Path) -> None:
    """Named; the others are walked."""
    put(folder, "closed/a.wav")
    (folder / "closed").chmod(0)
    try:
        assert scan(folder, tmp_path / "m.jsonl").rejected_by_reason == {"unreadable folder": 1}
    finally:
        (folder / "closed").chmod(0o755)


def test_folder_that_cannot_be_listed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, of a disk that fails."""
    (folder / "bad").mkdir()
    real = os.scandir

    def failing(path: str | Path) -> object:
        if Path(path).name == "bad":
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(os, "scandir", failing)
    found = scan(folder, tmp_path / "m.jsonl")
    assert [tuple(one) for one in found.rejected] == [("bad", "unreadable folder", "Input/output error")]


def test_file_that_grows_while_it_is_read(folder: Path, tmp_path: Path) -> None:
    """It is listed as far as it goes, and said to be damaged."""
    path = folder / "growing.mp3"
    sf.write(path, hum(20, 16_000), 16_000)
    data = path.read_bytes()
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(data[-2_000:])
                file.flush()
                time.sleep(0.002)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        found = scan(folder, tmp_path / "m.jsonl")
    finally:
        stop.set()
        writer.join()
    assert (found.num_files, len(found.flaws)) == (2, 1)
    lines = {line["recording"]: line for line in read_lines(tmp_path / "m.jsonl")}
    assert "changed while it was read: from " in lines["growing.mp3"]["flaw"]


def test_many_files_and_deep_folders_in_seconds(tmp_path: Path) -> None:
    """20,000 files in one folder; 500 folders in one another: far deeper than Python's stack would go in calls."""
    many, deep = tmp_path / "many", tmp_path / "deep"
    many.mkdir()
    for number in range(20_000):
        (many / f"{number:05d}.wav").touch()
    place = deep
    for _ in range(500):
        place /= "d"
    place.mkdir(parents=True)
    (place / "a.wav").touch()
    begun = time.monotonic()
    names = [path.name for path in walk(many).files]
    assert time.monotonic() - begun < 5
    assert names == sorted(names)
    assert len(names) == 20_000
    assert len(walk(deep).files) == 1


def test_nothing_but_trash_says_so(tmp_path: Path) -> None:
    """The error counts what was skipped."""
    sf.write(put(tmp_path, "in/.Trashes/a.wav"), np.zeros(16_000), 16_000)
    put(tmp_path, "in/notes.txt", b"text")
    with pytest.raises(ManifestError, match="1 other files; 1 in trash and hidden folders, which are skipped"):
        scan(tmp_path / "in", tmp_path / "m.jsonl")


def test_every_file_is_accounted_for(folder: Path, tmp_path: Path) -> None:
    """Listed, rejected, other or skipped: the sum is the number of files."""
    for name, (_, content) in OTHERS.items():
        put(folder, f"sub/{name}", content)
    put(folder, ".Trashes/1/2/3.wav")
    put(folder, "broken.wav", b"RIFF")
    put(folder, "empty")
    found = scan(folder, tmp_path / "m.jsonl")
    total = sum(path.is_file() for path in folder.rglob("*"))
    assert found.num_files + len(found.rejected) + found.num_other + found.skipped.total() == total
    assert json.loads((tmp_path / "m.rejected.jsonl").read_text().splitlines()[0])["reason"] == "unreadable"
