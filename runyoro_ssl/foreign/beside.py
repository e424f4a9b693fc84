"""A file of another toolkit given as a model: it is converted once, beside itself."""

from __future__ import annotations

import json
from pathlib import Path

from runyoro_ssl.errors import ConvertError
from runyoro_ssl.foreign.write import NOTE, convert_file, source_of
from runyoro_ssl.logs import get_logger

log = get_logger()


def converted_beside(path: Path) -> Path:
    """The folder, named like the file, that transformers reads; written if it is not there.

    Raises:
        ConvertError: As `convert_file`; or something else has that name.
    """
    folder = path.with_suffix("")
    if not folder.exists():
        try:
            made = convert_file(path, folder)
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


def _is_of(folder: Path, path: Path) -> bool:
    try:
        note = json.loads((folder / NOTE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(note, dict) and {name: note.get(name) for name in source_of(path)} == source_of(path)
