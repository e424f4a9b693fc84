"""Models of fairseq and fairseq2 as the user gives them, made ones that tasks can load, and heard before they learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runyoro_ssl.config import Config
from runyoro_ssl.errors import ConvertError
from runyoro_ssl.foreign.note import Origin, read_note
from runyoro_ssl.hub.known import FILE_ENDINGS, KNOWN, full_name
from runyoro_ssl.logs import get_logger

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.both_ways import BothWays

log = get_logger()


def with_folder(config: Config, *, may_make: bool = True) -> Config:
    """The configuration with a folder in place of a model of fairseq2 or fairseq.

    Raises:
        RunyoroError: As `as_folder`.
    """
    model = config.model
    folder = as_folder(model.model_name_or_path, model.revision, may_make=may_make)
    if folder == model.model_name_or_path:
        return config
    update = {"model_name_or_path": folder, "revision": None}
    return config.model_copy(update={"model": model.model_copy(update=update)})


def as_folder(name_or_path: str, revision: str | None = None, *, may_make: bool = True) -> str:
    """The folder that a file of fairseq2 or fairseq was converted to, or now is; what is none passes.

    A known model that comes as such a file is fetched. It is converted beside itself, in the hub's cache.

    Args:
        name_or_path: As the user gave it.
        revision: Of a name on the hub.
        may_make: Fetch what is not here, and convert what is not converted: gigabytes.

    Raises:
        RunyoroError: It cannot be fetched, or converted; or neither may be, and is needed.
    """
    name = full_name(name_or_path)
    original = KNOWN[name].original if name in KNOWN else None
    path = Path(name_or_path)
    if path.is_dir() or (original is None and path.suffix not in FILE_ENDINGS):
        return name_or_path
    file = path if original is None else _original(name, original, revision, may_fetch=may_make)
    if not file.is_file():
        raise ConvertError(f"model {file}: no such file; give the .pt of fairseq2 or fairseq, or a model's folder")
    if not file.with_suffix("").exists() and (not may_make or several_processes()):
        raise ConvertError(f"{file}: convert it once, before this: `invoke convert {file}`")
    from runyoro_ssl.foreign.beside import converted_beside  # torch

    return str(converted_beside(file, None if original is None else Origin(name, file.parent.name)))


def _original(name: str, original: str, revision: str | None, *, may_fetch: bool) -> Path:
    """The file of a known model, in the hub's cache."""
    from runyoro_ssl.hub.cached import cached_folder
    from runyoro_ssl.hub.fetch import MAIN, fetched_folder

    if not may_fetch and cached_folder(name, revision or MAIN, ["original"]) is None:
        fetch = f"`invoke doctor --fetch --model-name-or-path {name}`"
        raise ConvertError(f'model "{name}" is not here; {fetch} fetches it, and converts it')
    return fetched_folder(name, revision, "original") / original


def hear_first(config: Config, dataset: Path) -> None:
    """Hear a converted model on held-out clips of speech that it is used on, once, before it is.

    Raises:
        ConvertError: It guesses; or there are several processes, which would all write what they found.
    """
    folder = Path(config.model.model_name_or_path)
    if (again := _hearing(folder, str(dataset))) is None:
        return
    if several_processes():
        raise ConvertError(f"{folder}: was not heard yet, and one process must do that, before several: {again}")
    found = hear_converted(folder, dataset, config)
    log.info(
        "model_heard",
        normalised=round(found.normalised, 2),
        as_they_are=round(found.as_they_are, 2),
        guessing=round(found.guessing, 2),
        clips="are normalised" if found.normalises else "are taken as they are, which it foretells better",
    )


def warn_if_unheard(folder: Path) -> None:
    """Say of a converted model that nobody knows yet whether it takes clips normalised, where none are at hand."""
    if again := _hearing(folder, "DATASET"):
        log.warning("model_not_heard", model=str(folder), because="it may want clips as they are", remedy=again)


def _hearing(folder: Path, dataset: str) -> str | None:
    """The command by which a converted model is heard; None where it was, or is no such model."""
    note = read_note(folder)
    if not note or "heard" in note:
        return None
    return f"`invoke convert {folder.with_name(str(note.get('file')))} --output-dir {folder} --data {dataset}`"


def hear_converted(folder: Path, dataset: Path, config: Config) -> BothWays:
    """What a converted model foretells of a minute of a dataset; its feature extractor is set accordingly.

    Raises:
        RunyoroError: It guesses, or the dataset cannot be read.
    """
    from runyoro_ssl.dataset.read import Clips, load_splits
    from runyoro_ssl.evaluate.both_ways import listen_both_ways, settle
    from runyoro_ssl.model.extractor import load_sampling_rate
    from runyoro_ssl.model.listener import to_listen

    rate = load_sampling_rate(str(folder))
    clips = Clips(load_splits(dataset, sampling_rate=rate)["validation"])
    found = listen_both_ways(folder, clips, to_listen(config.hardware), sampling_rate=rate)
    settle(folder, found)
    return found


def several_processes() -> bool:
    """Whether a launcher started more than this one. What it set is checked where they join."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")
