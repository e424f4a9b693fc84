"""Models of fairseq and fairseq2 as the user gives them, made ones that tasks can load, and heard before they learn."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runyoro_ssl.config import Config
from runyoro_ssl.errors import ConvertError
from runyoro_ssl.logs import get_logger

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.both_ways import BothWays

log = get_logger()
FILE_ENDINGS = (".pt", ".pth")


def with_folder(config: Config) -> Config:
    """The configuration with a folder in place of a file of fairseq2 or fairseq, which is converted if need be.

    Raises:
        ConvertError: It cannot be.
    """
    given = Path(config.model.model_name_or_path)
    if given.suffix not in FILE_ENDINGS or not given.is_file():
        return config
    if _num_processes() > 1 and not given.with_suffix("").exists():
        raise ConvertError(f"{given}: convert it once, before several processes start: `invoke convert {given}`")
    from runyoro_ssl.foreign.beside import converted_beside

    folder = converted_beside(given)
    return config.model_copy(update={"model": config.model.model_copy(update={"model_name_or_path": str(folder)})})


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
    return int(os.environ.get("WORLD_SIZE", "1"))
