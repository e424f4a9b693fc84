"""A walk through a folder: which files are to be looked into, and which are none of the person's recordings."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from runyoro_ssl.audio.reasons import Reason
from runyoro_ssl.prepare.names import printable

BOOKKEEPING = re.compile(
    r"""
      \..*                                                      # hidden: .Trashes, .Trash-1000, .stversions, ._a.wav
    | __macosx | network\ trash\ folder | temporary\ items | icon\r                      # macOS
    | \$recycle\.bin | (?-i:RECYCLE[RD]) | found\.\d{3} | system\ volume\ information    # Windows, and cards it mended
    | desktop\.ini | thumbs\.db | ehthumbs.*\.db
    | lost\+found | lost\.dir                                                            # Linux, Android
    | @eadir | \#(?:recycle|snapshot) | @(?:tmp|sharebin|gmt-.*)                         # Synology, Samba
    | @(?:recycle|recently-snapshot|transcode) | (?:network\ )?recycle\ bin(?:\ \d+)?    # QNAP and others
    | trashbox | ~snapshot | ~syncthing~.* | ~\$.*                               # Buffalo, NetApp, Syncthing, Office
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Names, of folders and files, of what is hidden, thrown away, or kept by a system for itself."""
ICLOUD = re.compile(r"\..+\.icloud", re.IGNORECASE)
PLACEHOLDERS = re.compile(
    r".*\.(?:icloud|cloudf?|nextcloud|owncloud|opencloud|g(?:doc|sheet|slides|draw|form|map|site|jam|link|vid|script|table))",
    re.IGNORECASE,
)
"""Names of files that stand for others: of iCloud Drive, odrive, Nextcloud, ownCloud and Google Drive."""
UNFINISHED = re.compile(
    r".*\.(?:crdownload|part|partial|download|opdownload|filepart|aria2|!ut|!qb|!sync|bc!)", re.IGNORECASE
)
"""Names that browsers and others give to a file while they fetch it."""
KINDS = {
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Rejection(NamedTuple):
    """A file, or a folder, that is not in the manifest, and why. `path` is relative to the folder of recordings."""

    path: str
    reason: str
    detail: str


@dataclass
class Walk:
    """What a folder holds: `files` to be looked into, in a stable order; what is `refused` by its name or kind.

    `skipped` counts the files in trash and bookkeeping by the name of what holds them.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    refused: list[Rejection] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def relative(self, path: Path) -> str:
        """A path below the folder, with forward slashes, as the file system has it."""
        return path.relative_to(self.root).as_posix()

    def refuse(self, path: Path, reason: str, detail: str) -> None:
        """Note a path that is not looked into."""
        self.refused.append(Rejection(printable(self.relative(path)), reason, detail))


def walk(root: Path) -> Walk:
    """Walk a folder of recordings. Nothing is opened but folders; links to folders are not followed."""
    found = Walk(root)
    links: list[Path] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        inner: list[Path] = []
        for entry in _entries(folder, found):
            path = folder / entry.name
            if ICLOUD.fullmatch(entry.name):
                found.refuse(path, Reason.PLACEHOLDER, "iCloud has the recording, this disk has not")
            elif BOOKKEEPING.fullmatch(entry.name):
                found.skipped[printable(entry.name)] += _count_files(entry)
            elif entry.is_symlink():
                _take_link(path, found, links)
            elif entry.is_dir(follow_symlinks=False):
                inner.append(path)
            elif entry.is_file(follow_symlinks=False):
                _take_file(path, found)
            else:
                found.refuse(path, Reason.NO_FILE, _kind(path))
        folders += reversed(inner)
    _drop_links_to_listed(found, links)
    return found


def _entries(folder: Path, found: Walk) -> list[os.DirEntry[str]]:
    """What a folder holds, by name; nothing, and its refusal, if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.refuse(folder, Reason.UNREADABLE_FOLDER, str(error.strerror))
        return []


def _take_file(path: Path, found: Walk) -> None:
    if PLACEHOLDERS.fullmatch(path.name):
        found.refuse(path, Reason.PLACEHOLDER, f"a {path.suffix.lower()} file only says where the content is")
    elif UNFINISHED.fullmatch(path.name):
        found.refuse(path, Reason.UNFINISHED, f"a {path.suffix.lower()} file")
    else:
        found.files.append(path)


def _take_link(path: Path, found: Walk, links: list[Path]) -> None:
    """A link to a file is taken for the file; one to a folder, or to nothing, is refused."""
    try:
        mode = path.stat().st_mode
    except (OSError, RuntimeError) as error:
        where = printable(str(path.readlink()))
        if ".git/annex/objects" in where:
            found.refuse(path, Reason.PLACEHOLDER, "git-annex has its content elsewhere: git annex get")
        else:
            found.refuse(path, Reason.MISSING_FILE, f"a link to {where}: {getattr(error, 'strerror', None) or error}")
        return
    if stat.S_ISDIR(mode):
        found.refuse(path, Reason.LINKED_FOLDER, "links are not followed")
    elif stat.S_ISREG(mode):
        links.append(path)
        _take_file(path, found)
    else:
        found.refuse(path, Reason.NO_FILE, f"a link to {_kind(path)}")


def _drop_links_to_listed(found: Walk, links: list[Path]) -> None:
    """Of links to one file, and the file, the first stays that is no link."""
    if not links:
        return
    are_links = set(links)
    root = found.root.resolve()
    listed = {str(root / found.relative(path)) for path in found.files if path not in are_links}
    doubles: set[Path] = set()
    for path in links:
        target = str(path.resolve())
        if target in listed:
            doubles.add(path)
            found.refuse(path, Reason.LINKED_FILE, f"a link to {printable(target)}, which is listed")
        listed.add(target)
    found.files = [path for path in found.files if path not in doubles]


def _count_files(entry: os.DirEntry[str]) -> int:
    """Files in what is skipped: itself, or all below it that can be seen."""
    if not entry.is_dir(follow_symlinks=False):
        return 1
    return sum(len(names) for _, _, names in os.walk(entry.path))


def _kind(path: Path) -> str:
    with suppress(OSError):
        return KINDS.get(stat.S_IFMT(path.stat().st_mode), "neither file nor folder")
    return "neither file nor folder"
