"""Files that are on the disk whole or not at all: what a failure leaves, and what is flushed before it has its name."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runyoro_ssl.disk import durable
from runyoro_ssl.disk.durable import (
    copy_file,
    flush,
    flush_all,
    new_folder,
    put_in_place,
    remove_folder,
    replace_file,
    replacing,
    sweep,
    write_json,
    write_jsonl,
)


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """(name, whether `final` was there) of every file and folder that is flushed."""
    found: list[tuple[str, bool]] = []
    real = durable.flush

    def note(path: Path) -> None:
        found.append((path.name, (path.parent / "final").exists() or (path / "final").exists()))
        real(path)

    monkeypatch.setattr(durable, "flush", note)
    return found


def broken_rows() -> Iterator[dict[str, Any]]:
    """A row, then an error."""
    yield {"row": 1}
    raise ValueError("no more")


@pytest.mark.parametrize(
    ("write", "content"),
    [
        (lambda path: replace_file(path, "new"), "new"),
        (lambda path: write_json(path, {"name": "ŋ"}), '{\n  "name": "ŋ"\n}\n'),
        (lambda path: write_jsonl(path, [{"name": "ŋ"}, {}]), '{"name": "ŋ"}\n{}\n'),
        (lambda path: copy_file(path.with_name("other"), path), "other"),
    ],
    ids=["text", "json", "jsonl", "copy"],
)
def test_content_is_flushed_before_it_has_its_name(
    tmp_path: Path, flushed: list[tuple[str, bool]], write: Callable[[Path], None], content: str
) -> None:
    """First the new content, then the folder that names it; nothing else is left."""
    (tmp_path / "other").write_text("other")
    write(tmp_path / "final")
    assert (tmp_path / "final").read_text(encoding="utf-8") == content
    assert [there for _, there in flushed] == [False, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final", "other"]


def test_failure_leaves_the_old_content(tmp_path: Path) -> None:
    """An error in the middle of writing: the file is as it was, and nothing stands beside it."""
    path = tmp_path / "new folder" / "rows.jsonl"
    write_jsonl(path, [{"row": 0}])
    with pytest.raises(ValueError, match="no more"):
        write_jsonl(path, broken_rows())
    assert json.loads(path.read_text()) == {"row": 0}
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_size_of_what_is_put_in_place(tmp_path: Path) -> None:
    """In bytes, of the content."""
    (tmp_path / "draft").write_bytes(b"12345")
    assert put_in_place(tmp_path / "draft", tmp_path / "final") == 5
    assert (tmp_path / "final").read_bytes() == b"12345"


def test_whole_tree_is_flushed(tmp_path: Path, flushed: list[tuple[str, bool]]) -> None:
    """Every file, and every folder, at any depth."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "state").touch()
    flush_all(tmp_path)
    assert sorted(name for name, _ in flushed) == sorted(["a", "b", "file", "state", tmp_path.name])


def test_folders_that_cannot_be_flushed_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network shares flush files only; a file that cannot be flushed is an error everywhere."""

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    (tmp_path / "file").touch()
    monkeypatch.setattr(durable, "_full_sync", refuse)
    flush(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        flush(tmp_path / "file")


def test_removed_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    """Also one that a kill left under a passing name."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    for name in ("link", ".trash-link"):
        (tmp_path / name).symlink_to(tmp_path / "there")
    remove_folder(tmp_path / "link")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there" / "file").exists()


def into_new_folder(folder: Path) -> None:
    """More than the disk has room for."""
    with durable.new_folder(folder) as temporary:
        (temporary / "file").write_bytes(bytes(2 << 20))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: durable.replace_file(path, "x" * (2 << 20)),
        lambda path: durable.write_text(path, "x" * (2 << 20)),
        lambda path: durable.write_jsonl(path, [{"x": "x" * (2 << 20)}]),
        into_new_folder,
    ],
)
def test_full_disk_names_the_file(disk: Path, write: Callable[[Path], None]) -> None:
    """As the system does not, of a write."""
    with pytest.raises(OSError, match=r"No space left on device.*/a thing") as caught:
        write(disk / "a thing")
    assert Path(str(caught.value.filename)).parent == disk


def test_what_cannot_be_removed_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the bare name that rmtree gives."""
    (tmp_path / ".tmp-x").mkdir()

    def refuse(_folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "x")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(PermissionError) as caught:
        durable.sweep(tmp_path)
    assert caught.value.filename == str(tmp_path / ".tmp-x")


@pytest.mark.parametrize("left", ["nothing", "of a dead process", "a folder", "a pipe", "a link"])
def test_two_writers_of_a_file_do_not_meet(tmp_path: Path, left: str) -> None:
    """Each has a file of its own, whatever lies under the usual name; the last one to end counts, and is whole."""
    path, usual = tmp_path / "file", tmp_path / ".tmp-file"
    (tmp_path / "foreign").write_text("foreign")
    if left == "of a dead process":
        usual.write_text("half of something very long")
    elif left == "a folder":
        usual.mkdir()
    elif left == "a pipe":
        os.mkfifo(usual)
    elif left == "a link":
        usual.symlink_to(tmp_path / "foreign")
    with replacing(path) as first, first.open("a") as file:
        file.write("first, ")
        file.flush()
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        file.write("and long")
    assert path.read_text() == "first, and long"
    assert (tmp_path / "foreign").read_text() == "foreign"
    expected = {"file", "foreign"} | ({".tmp-file"} if left in ("a folder", "a pipe", "a link") else set())
    assert {one.name for one in tmp_path.iterdir()} == expected


def test_two_writers_of_a_folder_do_not_meet(tmp_path: Path) -> None:
    """What a dead process left is none of it; the first to end gives the name, and the other is an error."""
    final, usual = tmp_path / "folder", tmp_path / ".tmp-folder"
    usual.mkdir()
    (usual / "left").touch()
    with ExitStack() as stack:
        first = stack.enter_context(new_folder(final))
        (first / "one").touch()
        with new_folder(final) as second:
            (second / "two").touch()
        assert (first / "one").exists()
        with pytest.raises(OSError, match="not empty"):
            stack.close()
    assert {one.name for one in final.iterdir()} == {"two", "MANIFEST.json"}
    assert list(tmp_path.iterdir()) == [final]


def test_what_others_are_writing_is_not_swept(tmp_path: Path) -> None:
    """A file and a folder; what nobody writes any more goes."""
    for name in (".tmp-dead", ".tmp-folder-of-dead/file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with replacing(tmp_path / "file") as file, new_folder(tmp_path / "folder") as folder:
        file.touch()
        (folder / "one").touch()
        sweep(tmp_path)
        assert {one.name for one in tmp_path.iterdir()} == {file.name, folder.name}
    assert {one.name for one in tmp_path.iterdir()} == {"file", "folder"}
