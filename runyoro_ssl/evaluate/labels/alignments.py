"""A folder of phone alignments: the file of a recording, and the phones of a clip of it."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from runyoro_ssl.audio.synth import Phone
from runyoro_ssl.errors import EvaluationError
from runyoro_ssl.evaluate.labels.elan import read_elan
from runyoro_ssl.evaluate.labels.intervals import TimedLabels, checked, is_silence
from runyoro_ssl.evaluate.labels.lengths import in_seconds
from runyoro_ssl.evaluate.labels.phn import read_phn
from runyoro_ssl.evaluate.labels.places import Place
from runyoro_ssl.evaluate.labels.textgrid import read_textgrid

SUFFIXES = (".phn", ".textgrid", ".eaf")
NO_FILE, NO_PHONE = "no alignment of its recording", "no phone in it"


@dataclass(frozen=True)
class LabelledClips:
    """The phones of each clip, in seconds from its start, without silences; None where it has none; why, with counts.

    What an edge of a clip cuts in two is no phone of it.
    """

    phones: Sequence[Sequence[Phone] | None]
    left_out: dict[str, int]


@dataclass
class Alignments:
    """Files of alignments, by the name of the recording that they are of: each is read once, when it is asked for."""

    folder: Path
    files: dict[str, list[Path]]
    """By stem."""
    tier: str | None = None
    _read: dict[Path, TimedLabels] = field(default_factory=dict)
    _owners: dict[Path, str] = field(default_factory=dict)

    def find(self, source: str) -> Path | None:
        """The file of a recording: of the same name, below folders of the same names as far as there are several.

        Raises:
            EvaluationError: Several files may be meant.
        """
        wanted = _parts(source)
        files = self.files.get(wanted[-1], [])
        alike = [_num_alike(_parts(path.relative_to(self.folder).as_posix()), wanted) for path in files]
        best = [path for path, count in zip(files, alike, strict=True) if count == max(alike)]
        if len(best) > 1:
            names = " and ".join(path.relative_to(self.folder).as_posix() for path in best[:3])
            raise EvaluationError(
                f"{self.folder}: {names} may be that of {source}; keep one, or put them into folders like those of "
                "the recordings"
            )
        return best[0] if best else None

    def phones(self, place: Place) -> list[Phone] | None:
        """The phones that lie wholly in a clip, in seconds from its start; None without a file.

        Raises:
            EvaluationError: The file cannot be read, does not match the recording, or may be of two recordings.
        """
        path = self.find(place.source)
        if path is None:
            return None
        if self._owners.setdefault(path, place.source) != place.source:
            raise EvaluationError(
                f"{path}: may be that of {self._owners[path]} and of {place.source}; put alignments into folders like "
                "those of the recordings"
            )
        if path not in self._read:
            self._read[path] = in_seconds(checked(read_file(path, self.tier)), place)
        start, end = place.offset_sec, place.offset_sec + place.duration_sec
        return [
            Phone(row.symbol, row.start_sec - start, row.end_sec - start)
            for row in self._read[path].rows
            if row.start_sec >= start and row.end_sec <= end and not is_silence(row.symbol)
        ]

    @property
    def tiers(self) -> dict[str, int]:
        """Of how many files that were read a tier was taken, by its name."""
        return dict(Counter(labels.tier for labels in self._read.values() if labels.tier is not None))


def read_alignments(folder: Path, tier: str | None = None) -> Alignments:
    """Find the alignments of a folder and its subfolders: .phn, .TextGrid and .eaf.

    `tier`: the one that has the phones, where it is not called phones, phone or segments.

    Raises:
        EvaluationError: No folder, or no alignment in it.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no such folder of alignments; give --alignments the folder that has them")
    files: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            files[_parts(path.name)[-1]].append(path)
    if not files:
        raise EvaluationError(f"{folder}: no alignment in it; .phn, .TextGrid and .eaf are read")
    return Alignments(folder, dict(files), tier)


def label_clips(alignments: Alignments, places: Sequence[Place]) -> LabelledClips:
    """The phones of each clip.

    Raises:
        EvaluationError: A file is bad or ambiguous, or no clip has one.
    """
    phones = [alignments.phones(place) for place in places]
    if all(found is None for found in phones):
        names = [
            path.relative_to(alignments.folder).as_posix() for paths in alignments.files.values() for path in paths
        ]
        asked = f", such as {PurePosixPath(places[0].source).name}" if places else ""
        raise EvaluationError(
            f"{alignments.folder}: none of {len(names)} alignments, such as {names[0]}, has the name of a held-out "
            f"recording{asked}; name them like the recordings"
        )
    reasons = Counter(NO_FILE if found is None else NO_PHONE for found in phones if not found)
    return LabelledClips([found or None for found in phones], dict(reasons))


def read_file(path: Path, tier: str | None = None) -> TimedLabels:
    """Read an alignment by its suffix. Raises EvaluationError as the reader of its kind."""
    if path.suffix.lower() == ".phn":
        return read_phn(path)
    return read_textgrid(path, tier) if path.suffix.lower() == ".textgrid" else read_elan(path, tier)


def _parts(path: str) -> tuple[str, ...]:
    """A path's names without the suffix, as one writes them on any system."""
    pure = PurePosixPath(unicodedata.normalize("NFC", path.replace("\\", "/")))
    return (*pure.parts[:-1], pure.stem)


def _num_alike(parts: Sequence[str], wanted: Sequence[str]) -> int:
    """How many names agree, from the last on."""
    count = 0
    for one, other in zip(reversed(parts), reversed(wanted), strict=False):
        if one != other:
            break
        count += 1
    return count
