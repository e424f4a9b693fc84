"""Names as people and systems write them: one normal form, and a path found however it is spelled."""

from __future__ import annotations

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

AMBIGUOUS = re.compile(r"[\\%~]|[^\x00-\x7f]|^file:|^[A-Za-z]:|^//", re.IGNORECASE)
"""What makes a path one that may have to be looked for; any other is only what it says."""
FOREIGN = re.compile(r"(?:([A-Za-z]):|//[^/]+/[^/]+)(?=/)")
"""The beginning of a path of Windows, slashes turned: a drive, or a server and what it shares."""
MAX_SHOWN = 200
"""Characters of a path in a message."""
MAX_TRIES = 24
"""Spellings that are tried of one path."""


def nfc(text: str) -> str:
    """The text in Unicode's normal form C, in which names compare: file systems and archives give either form."""
    return unicodedata.normalize("NFC", text)


def printable(path: str) -> str:
    """A path that can be written as UTF-8, whatever the file system calls it."""
    return path.encode("utf-8", "backslashreplace").decode()


def spellings(path: str) -> list[str]:
    """What a path may mean, the likeliest first.

    As it stands; as a `file:` address; with `~`, `%20`, backslashes; of a drive of Windows, which may be mounted, or of
    which some folders were copied here.
    """
    slashes = slashed(path)
    found = [path, slashes]
    if "%" in path:
        found.append(unquote(slashes))
    if foreign := FOREIGN.match(slashes):
        folders = slashes[foreign.end() + 1 :].split("/")
        if foreign[1]:
            found.append(f"/mnt/{foreign[1].lower()}/{'/'.join(folders)}")
        found += ["/".join(folders[first:]) for first in range(len(folders))]
    return list(dict.fromkeys(found))[:MAX_TRIES]


def slashed(path: str) -> str:
    """A path with forward slashes, without `file:` and `~`."""
    if re.match(r"file:/", path, re.IGNORECASE):
        parts = urlsplit(path)
        server = f"//{parts.netloc}" if parts.netloc.lower() not in {"", "localhost"} else ""
        return server + re.sub(r"^/(?=[A-Za-z]:)", "", unquote(parts.path))
    if path.startswith("~"):
        with suppress(RuntimeError):
            return str(Path(path).expanduser()).replace("\\", "/")
    return path.replace("\\", "/")


def is_plain(path: str) -> bool:
    """Whether a path has no other spelling, so that nobody need look."""
    return AMBIGUOUS.search(path) is None


def explain_missing(path: str) -> str:
    """What to say of a path that leads to no file: all that was tried, in one line."""
    if is_plain(path):
        return "no such file"
    tried = [one for one in spellings(path) if one != path]
    also = ", in both normal forms of Unicode" if not path.isascii() else ""
    return f"no such file; tried {', '.join(map(_short, [path, *tried]))}{also}"


def _short(path: str) -> str:
    return f'"{path}"' if len(path) <= MAX_SHOWN else f'"{path[:100]} ... {path[-90:]}"'


class Finder:
    """Finds files by paths relative to a folder, spelled as `spellings` knows, in either normal form, or other case.

    What it saw of folders it remembers: use one for one manifest or table.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._listings: dict[Path, dict[str, str]] = {}

    def find(self, path: str) -> str | None:
        """The path as the file system has it, relative to the folder where `path` is; None: there is no such file."""
        for spelling in spellings(path):
            with suppress(OSError, ValueError):
                if (self.home / spelling).exists():
                    return spelling
                if (found := self._walk(spelling)) is not None:
                    return found
        return None

    def _walk(self, path: str) -> str | None:
        """Part by part, each under a name that is the same to a person."""
        place = Path("/") if path.startswith("/") else Path()
        for part in filter(None, path.split("/")):
            known = part if part in {".", ".."} or (self.home / place / part).exists() else None
            known = known or self._alike(self.home / place, part)
            if known is None:
                return None
            place /= known
        return place.as_posix()

    def _alike(self, folder: Path, name: str) -> str | None:
        if folder not in self._listings:
            self._listings[folder] = _alike_names(folder)
        names = self._listings[folder]
        return names.get(nfc(name)) or names.get(folded(name))


def _alike_names(folder: Path) -> dict[str, str]:
    """Names of a folder by their normal form, and without regard to case where only one is so called."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names alone, of what may be 100,000 files
    except OSError:
        return {}
    alike: dict[str, str] = {}
    for name in names:
        key = folded(name)
        alike[key] = "" if key in alike else name
    return {key: name for key, name in alike.items() if name} | {nfc(name): name for name in reversed(names)}


def folded(name: str) -> str:
    """A name without regard to case and normal form."""
    return nfc(nfc(name).casefold())
