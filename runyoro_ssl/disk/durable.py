"""Files and folders that are on the disk whole, or not at all; and whether they still are what was written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from runyoro_ssl.disk.temporary import TEMPORARY, is_written, own_file, own_folder, unfinished
from runyoro_ssl.small_files import read_small

MANIFEST = "MANIFEST.json"
TRASH = ".trash-"
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of file systems, some network shares among them, that flush files and cannot flush folders."""
GONE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""Errors that tell what a folder holds. All others (rights, a disk or a share that fails) tell that it was not seen."""


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Make a folder to write into; it gets the name `final` when the block ends well, sealed and flushed, else it goes.

    A kill at any moment leaves either nothing under `final`, or all of it. Two processes may make the same folder: one
    of them gives it its name, and the other gets an OSError.
    """
    with ExitStack() as stack:
        with named_failure(final, always=True):
            folder = stack.enter_context(own_folder(final))
        with named_failure(final):
            yield folder
        _give_name(folder, final)


def open_folder(final: Path) -> Path:
    """Make a folder to write into, that is to be `final`: for several processes, which cannot share a `with` block."""
    folder = unfinished(final)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def close_folder(final: Path) -> None:
    """Seal and flush what `open_folder` began, and give it its name."""
    _give_name(unfinished(final), final)


def _give_name(folder: Path, final: Path) -> None:
    seal(folder)
    folder.rename(final)
    flush(final.parent)


def seal(folder: Path) -> None:
    """Flush every file of a folder to the disk, and write `MANIFEST.json` over them: bytes and SHA-256 of each.

    Files get the rights that the folder has, by the umask: safetensors makes its own readable to nobody else.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        with suppress(OSError):  # file systems without rights
            path.chmod(stat.S_IMODE(folder.stat().st_mode) & 0o666)
        flush(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    write_text(folder / MANIFEST, _manifest(files))
    flush(folder)


def verify(folder: Path, needs: Collection[str] = ()) -> str | None:
    """Say what is wrong with a sealed folder; None if it holds the files its manifest names, byte for byte.

    `needs`: files that the manifest must name. What a newer version adds to a manifest is not looked at.

    Raises:
        OSError: It could not be read: that says nothing of what is in it.
    """
    wanted = _read_manifest(folder)
    if isinstance(wanted, str):
        return wanted
    if lacking := sorted({*needs} - wanted.keys()):
        return f"{MANIFEST} does not name {lacking[0]}"
    for name, (num_bytes, digest) in wanted.items():
        if problem := _compare(folder, name, num_bytes, digest):
            return f"{name} {problem}"
    return None


def _read_manifest(folder: Path) -> dict[str, tuple[int, str]] | str:
    """Bytes and SHA-256 of each file by name; or, in words, what is wrong with the manifest. Raises OSError."""
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return "no such folder"
        text = read_small(folder / MANIFEST)
        manifest = json.loads(text)
        stated = manifest["files"]
        wanted = {str(name): (int(file["bytes"]), str(file["sha256"])) for name, file in stated.items()}
    except OSError as error:
        if error.errno not in GONE:
            raise
        return f"no readable {MANIFEST} ({type(error).__name__})" if folder.is_dir() else "no such folder"
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        return f"no readable {MANIFEST} ({type(error).__name__})"
    if manifest.keys() == {"files"} and text != _manifest(stated):
        return f"{MANIFEST} is damaged"
    return wanted


def _manifest(files: Any) -> str:
    return json.dumps({"files": files}, indent=2)


def _compare(folder: Path, name: str, num_bytes: int, digest: str) -> str | None:
    path = folder / name
    if path.name != name:
        return f"is no file of the folder, though {MANIFEST} names it"
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return f"is no file, as {MANIFEST} says"
        if found.st_size != num_bytes:
            return f"has {found.st_size} bytes, {MANIFEST} says {num_bytes}"
        if sha256(path) != digest:
            return f"is damaged (its SHA-256 differs from {MANIFEST})"
    except OSError as error:
        if error.errno not in GONE:
            raise
        return f"cannot be read ({error.strerror})"
    return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Name a file to write, beside `path`; it takes the place of `path` when the block ends well, else it goes.

    A kill at any moment leaves the old content under `path`, or the new one. Two processes may replace the same file.
    """
    with ExitStack() as stack:
        with named_failure(path, always=True):
            temporary = stack.enter_context(own_file(path))
        with named_failure(path):
            yield temporary
        put_in_place(temporary, path)


@contextmanager
def named_failure(path: Path, *, always: bool = False) -> Iterator[None]:
    """Have an OSError name this path if it names none, as that of a write does; `always`: in place of what it names."""
    try:
        yield
    except OSError as error:
        if error.filename is None or always:
            error.filename = str(path)
        raise


def put_in_place(temporary: Path, path: Path) -> int:
    """Give a written file the name `path`, when the disk holds its content. Returns its size in bytes."""
    flush(temporary)
    num_bytes = temporary.stat().st_size
    temporary.replace(path)
    flush(path.parent)
    return num_bytes


def replace_file(path: Path, text: str) -> None:
    """Give a file another content: after a kill it has the old one or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def copy_file(source: Path, path: Path) -> None:
    """Copy a file: after a kill, `path` has its old content or the new one."""
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)


def keep_copy(path: Path) -> Path:
    """Copy a damaged file to `damaged-<name>` beside it, or to the next such name that is free. Returns it."""
    names = (f"damaged-{path.name}", *(f"damaged-{number}-{path.name}" for number in range(2, 1000)))
    copy = next(place for name in names if not (place := path.with_name(name)).exists())
    copy_file(path, copy)
    return copy


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file for people, indented, UTF-8: whole or not at all."""
    replace_file(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON Lines, UTF-8, into a folder that is made if need be: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a new file, and flush it."""
    with named_failure(path):
        path.write_text(text, encoding="utf-8")
    flush(path)


def remove_folder(folder: Path) -> None:
    """Remove a folder; a kill on the way never leaves half of it under its name. Of a link, only the link goes."""
    if folder.is_symlink():
        folder.unlink()
        return
    trash = folder.with_name(f"{TRASH}{folder.name}")
    shutil.rmtree(trash, ignore_errors=True)
    folder.rename(trash)
    _remove_tree(trash)


def sweep(parent: Path) -> None:
    """Remove what a kill left of `new_folder`, `replacing` and `remove_folder`; not what others are writing."""
    begun = [path for path in parent.glob(f"{TEMPORARY}*") if not is_written(path)]
    for path in [*begun, *parent.glob(f"{TRASH}*")]:
        if path.is_dir() and not path.is_symlink():
            _remove_tree(path)
        else:
            path.unlink()


def _remove_tree(folder: Path) -> None:
    with named_failure(folder, always=True):  # rmtree names a file without its folder
        shutil.rmtree(folder)


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with named_failure(path):
            _full_sync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def flush_all(folder: Path) -> None:
    """Have the disk hold a folder and all that is in it, at any depth."""
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)


def _full_sync(descriptor: int) -> None:
    """Flush an open file. On macOS, fsync leaves the data in the drive's cache, see fcntl(2), F_FULLFSYNC."""
    import fcntl

    if hasattr(fcntl, "F_FULLFSYNC"):
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(descriptor)
    else:
        os.fsync(descriptor)


def sha256(path: Path) -> str:
    """The hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
