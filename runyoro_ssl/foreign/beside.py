"""A file of another toolkit given as a model: it is converted once, beside itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runyoro_ssl.errors import ConvertError
from runyoro_ssl.foreign.write import NOTE, Origin, convert_file, source_of
from runyoro_ssl.logs import get_logger
from runyoro_ssl.small_files import read_small

log = get_logger()


def converted_beside(path: Path, origin: Origin | None = None) -> Path:
    """The folder, named like the file, that transformers reads; written if it is not there.

    Raises:
        ConvertError: As `convert_file`; or something else has that name.
    """
    folder = path.with_suffix("")
    if not folder.exists():
        try:
            made = convert_file(path, folder, origin=origin)
        except OSError as error:
            raise ConvertError(
                f"{path}: cannot be converted beside itself ({error.strerror or error}): `invoke convert {path} "
                "--output-dir` a folder that you may write into, and give that as the model"
            ) from None
        log.info("model_converted", file=str(path), of=made.toolkit, weights=made.num_weights, to=str(folder))
    elif not _is_of(folder, path):
        raise ConvertError(
            f"{folder}: is there, and was not made from {path.name} as it is now; remove it, or give it as the model"
        )
    return folder


def origin_of(folder: Path) -> Origin | None:
    """Where the file was fetched from that a folder was made of; None for any other folder."""
    note = _note(folder)
    return Origin(str(note["model"]), str(note["revision"])) if note.keys() >= {"model", "revision"} else None


def _is_of(folder: Path, path: Path) -> bool:
    note, source = _note(folder), source_of(path)
    return {name: note.get(name) for name in source} == source


def _note(folder: Path) -> dict[str, Any]:
    try:
        note = json.loads(read_small(folder / NOTE))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
