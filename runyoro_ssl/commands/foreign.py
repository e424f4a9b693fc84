"""Models of fairseq and fairseq2 as the user gives them, made ones that tasks can load, and heard before they learn."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runyoro_ssl.config import Config
from runyoro_ssl.errors import ConvertError
from runyoro_ssl.hub.known import KNOWN, SHORT_NAMES
from runyoro_ssl.logs import get_logger

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.both_ways import BothWays

log = get_logger()
FILE_ENDINGS = (".pt", ".pth")


def with_folder(config: Config, *, may_fetch: bool = True) -> Config:
    """The configuration with a folder in place of a model of fairseq2 or fairseq. `may_fetch`: gigabytes.

    Raises:
        RunyoroError: As `as_folder`.
    """
    model = config.model
    folder = as_folder(model.model_name_or_path, model.revision, may_fetch=may_fetch)
    if folder == model.model_name_or_path:
        return config
    update = {"model_name_or_path": folder, "revision": None}
    return config.model_copy(update={"model": model.model_copy(update=update)})


def as_folder(name_or_path: str, revision: str | None = None, *, may_fetch: bool = True) -> str:
    """The folder that a file of fairseq2 or fairseq was converted to, or now is; what is none passes.

    A known model that comes as such a file is fetched. It is converted beside itself, in the hub's cache.

    Raises:
        RunyoroError: It cannot be fetched, or converted.
    """
    name = SHORT_NAMES.get(name_or_path.lower(), name_or_path)
    original = KNOWN[name].original if name in KNOWN else None
    if Path(name_or_path).is_dir():
        return name_or_path
    if original is not None:
        from runyoro_ssl.hub.cached import cached_folder
        from runyoro_ssl.hub.fetch import MAIN, fetched_folder

        if not may_fetch and cached_folder(name, revision or MAIN, ["original"]) is None:
            fetch = f"`invoke doctor --fetch --model-name-or-path {name_or_path}`"
            raise ConvertError(f'model "{name_or_path}" is not here; {fetch} fetches it, and converts it')
        file = fetched_folder(name, revision, "original") / original
    else:
        file = Path(name_or_path)
        if file.suffix not in FILE_ENDINGS:
            return name_or_path
        if not file.is_file():
            raise ConvertError(f"model {file}: no such file; give the .pt of fairseq2 or fairseq, or a model's folder")
    if _num_processes() > 1 and not file.with_suffix("").exists():
        raise ConvertError(f"{file}: convert it once, before several processes start: `invoke convert {name_or_path}`")
    from runyoro_ssl.foreign.beside import converted_beside
    from runyoro_ssl.foreign.write import Origin

    return str(converted_beside(file, Origin(name, file.parent.name) if original else None))


def hear_first(config: Config) -> None:
    """Hear a converted model on the clips that it is to learn from, once, before it does.

    Raises:
        ConvertError: It guesses.
    """
    from runyoro_ssl.foreign.write import NOTE

    folder = Path(config.model.model_name_or_path)
    if not (folder / NOTE).is_file() or "heard" in json.loads((folder / NOTE).read_text()):
        return
    if _num_processes() > 1:
        raise ConvertError(f"{folder}: was not heard yet; let one process hear it: `invoke train --max-steps 1`")
    found = hear_converted(folder, config.train.processed_dataset_path, config, keep=True)
    log.info(
        "model_heard",
        normalised=round(found.normalised, 2),
        as_they_are=round(found.as_they_are, 2),
        guessing=round(found.guessing, 2),
        clips="are normalised" if found.normalises else "are taken as they are, which it foretells better",
    )


def hear_converted(folder: Path, dataset: Path, config: Config, *, keep: bool) -> BothWays:
    """What a converted model foretells of a minute of a dataset; its feature extractor is set accordingly.

    `keep`: leave the folder, where it guesses; else it goes.
    """
    from runyoro_ssl.dataset.read import Clips, load_splits
    from runyoro_ssl.evaluate.both_ways import listen_both_ways, settle
    from runyoro_ssl.model.extractor import load_sampling_rate
    from runyoro_ssl.model.listener import to_listen

    try:
        rate = load_sampling_rate(str(folder))
        splits = load_splits(dataset, sampling_rate=rate)
        clips = Clips(splits["validation" if "validation" in splits else "train"])
        found = listen_both_ways(folder, clips, to_listen(config.hardware), sampling_rate=rate)
        settle(folder, found)
    except BaseException:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return found


def _num_processes() -> int:
    asked = os.environ.get("WORLD_SIZE", "")
    return int(asked) if asked.isdecimal() else 1  # what is no number is refused where processes join
