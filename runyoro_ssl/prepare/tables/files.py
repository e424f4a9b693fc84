"""The files of a folder, found by what tables call them: by path, bare name, without extension, in other letters."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from runyoro_ssl.prepare.names import folded, nfc, slashed
from runyoro_ssl.prepare.sniff import AUDIO_EXTENSIONS

Folders = tuple[str, ...]


def stem(name: str) -> str:
    """A file's name without its extension."""
    return posixpath.splitext(name)[0]


def _same(name: str) -> str:
    return name


def _folded_stem(name: str) -> str:
    return stem(folded(name))


def _without_audio_extension(name: str) -> str:
    name = folded(name)
    return stem(name) if posixpath.splitext(name)[1] in AUDIO_EXTENSIONS else name


LEVELS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (_same, _same),
    (folded, folded),
    (stem, _same),  # the table leaves the extension away
    (_folded_stem, folded),
    (_folded_stem, _without_audio_extension),  # the table has another: the files were converted
)
"""What is compared of a file's name and of the table's, the strictest first."""


class FileIndex:
    """The files of a folder, to be found by a cell of a table."""

    def __init__(self, root: Path, files: Sequence[Path], table_dir: Path) -> None:
        """Index files below a folder. Paths of the table are relative to that, or to the folder of the table."""
        self._root = tuple(nfc(part) for part in root.resolve().parts[1:])
        self._bases = [nfc(place.as_posix()) for place in (root.resolve(), root.absolute(), table_dir.resolve())]
        self._places: dict[Path, Folders] = {}
        self._by_path: dict[str, Path] = {}
        self._levels: list[dict[str, list[Path]]] = [defaultdict(list) for _ in LEVELS]
        for path in files:
            relative = nfc(path.relative_to(root).as_posix())
            *folders, name = relative.split("/")
            self._by_path.setdefault(relative, path)
            self._places[path] = tuple(folders)
            for level, (of_file, _) in zip(self._levels, LEVELS, strict=True):
                level[of_file(name)].append(path)

    def find(self, cell: str) -> list[Path]:
        """The files that a cell may mean: none, one, or several, among which it does not tell."""
        for spelling in dict.fromkeys((cell, slashed(cell))):
            if found := self._at(spelling) or self._called(spelling):
                return found
        return []

    def _at(self, cell: str) -> list[Path]:
        """The file at a path, from the folder of recordings or that of the table."""
        for base in self._bases:
            whole = posixpath.normpath(posixpath.join(base, cell))
            for root in self._bases[:2]:
                if whole.startswith(f"{root}/") and (path := self._by_path.get(whole[len(root) + 1 :])):
                    return [path]
        return []

    def _called(self, cell: str) -> list[Path]:
        """The files of a name, in folders of which the cell names none, or the right ones."""
        is_absolute = cell.startswith("/") or cell[1:2] == ":"
        *folders, name = [part for part in cell.split("/") if part not in {"", ".", ".."}] or [""]
        for number, (level, (_, of_cell)) in enumerate(zip(self._levels, LEVELS, strict=True)):
            known = level.get(of_cell(name), ())
            fits = [path for path in known if self._is_in(path, folders, is_absolute=is_absolute, exact=number == 0)]
            sound = [path for path in fits if path.suffix.lower() in AUDIO_EXTENSIONS]
            if fits:
                return sound or fits
        return []

    def _is_in(self, path: Path, folders: Sequence[str], *, is_absolute: bool, exact: bool) -> bool:
        """Whether a file is in folders that a table names.

        An absolute path of another machine, which ends as that of the file below its root does, is that of the file.
        """
        compared = _same if exact else folded
        named = [compared(one) for one in folders]
        below = [compared(one) for one in self._places[path]]
        whole = [*map(compared, self._root), *below]
        if not named or whole[-len(named) :] == named:
            return True
        return is_absolute and named[len(named) - len(below) :] == below

    def examples(self) -> Iterator[str]:
        """Paths of recordings, as a table may have them."""
        return (path for path, file in self._by_path.items() if file.suffix.lower() in AUDIO_EXTENSIONS)
