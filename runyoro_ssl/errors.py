"""Errors a user can mend. Each message says what, where, the value seen and what to do next, in one line."""

import difflib
import re
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path


class RunyoroError(Exception):
    """Ends a task with exit status 1 and its message; anything else that escapes a task is a bug (status 2)."""


class ConfigError(RunyoroError):
    """A setting, profile, device or path that cannot work."""


class ManifestError(RunyoroError):
    """A manifest that is missing, empty or has a line that cannot be read."""


class AudioError(RunyoroError):
    """A recording that cannot be used.

    `reason` is the short category that reports count by ("empty file"); the message adds the detail.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)

    def __reduce__(self) -> tuple[type["AudioError"], tuple[str, str]]:
        # Exceptions pickle through their args; worker processes send these home.
        return type(self), (self.reason, self.detail)


class DatasetError(RunyoroError):
    """A prepared dataset that is missing, damaged or made for another model."""


class CheckpointError(RunyoroError):
    """A model or checkpoint that cannot be loaded, trained or resumed."""


class OutOfReachError(CheckpointError):
    """A model that only the hub has, which cannot be asked now."""


class PluginError(RunyoroError):
    """A plugin that cannot be loaded, or that failed; the message names its file."""


class TrainingError(RunyoroError):
    """Training that cannot start, or must not go on."""


class EvaluationError(RunyoroError):
    """Two models cannot be compared."""


class TooLittleSpeechError(EvaluationError):
    """Held-out speech of which nothing can be told."""


class EmbedError(RunyoroError):
    """Recordings, or a layer, of which no features or units can be had."""


class DonorsError(RunyoroError):
    """Donors cannot be chosen: of this target, or from these pools."""


class ConvertError(RunyoroError):
    """A file that is no pre-trained model of fairseq2 or fairseq, or cannot be made one of transformers."""


class PublishError(RunyoroError):
    """A model that cannot be published, or that the hub does not take."""


class LoaderError(TrainingError):
    """Batches can no longer be built; what was learned so far can be saved."""


MAX_ALIKE = 4
"""Options that are named where a word may stand for several."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names, as a remark to put behind a wrong one; nothing if none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def did_you_mean_option(word: str, known: Iterable[str]) -> str:
    """Options that a word may stand for, as a remark: by initials (`lr`), by a part (`epochs`), or by likeness."""
    known, bare = list(known), _parts(word)
    found = [name for name in known if [part[0] for part in _parts(name)] == list("".join(bare))]
    found = found or [name for name in known if f"-{'-'.join(bare)}-" in f"-{'-'.join(_parts(name))}-"]
    if not found:
        return did_you_mean(word, known)
    return f" (did you mean {' or '.join(found[:MAX_ALIKE])}?)"


def _parts(name: str) -> list[str]:
    """Words of an option, with dashes or underscores; in the singular, for `epoch` is meant as `epochs` is."""
    return [re.sub(r"(?<=.)s$", "", part) for part in re.split(r"[-_]", name.strip("-"))]


def describe(error: BaseException) -> str:
    """What a plugin raised, and where: `ValueError: no such village (runyoro_village.py:12)`."""
    what = error.msg if isinstance(error, SyntaxError) else error
    return f"{type(error).__name__}: {what} ({where_raised(error)})"


def where_raised(error: BaseException) -> str:
    """The place a plugin's author looks for, e.g. `runyoro_village.py:12`.

    It is the deepest line that is neither our own (the built-in plugins' are theirs) nor that of a library; the deepest
    of all if there is none. For a file that is no Python, where that was seen.
    """
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    if not frames:
        return "no traceback"
    frame = next((frame for frame in reversed(frames) if _is_of_plugin(Path(frame.filename))), frames[-1])
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _is_of_plugin(file: Path) -> bool:
    own = Path(__file__).parent
    if file.is_relative_to(own):
        return file.is_relative_to(own / "builtins")
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return not any(file.is_relative_to(folder) for folder in libraries)
