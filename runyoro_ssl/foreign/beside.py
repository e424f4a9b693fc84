"""A file of another toolkit is converted once: beside itself, where it is given as a model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from runyoro_ssl.errors import ConvertError
from runyoro_ssl.foreign.note import NOTE, Origin, is_made_of, read_note
from runyoro_ssl.foreign.read import check_file
from runyoro_ssl.foreign.write import Converted, convert_file
from runyoro_ssl.logs import get_logger
from runyoro_ssl.small_files import read_object

log = get_logger()


def converted_beside(path: Path, origin: Origin | None = None) -> Path:
    """The folder, named like the file, that transformers reads; written if it is not there.

    Raises:
        ConvertError: As `convert_once`; or it cannot be written there.
    """
    folder = path.with_suffix("")
    if folder.exists():
        return convert_once(path, folder).folder
    try:
        made = convert_once(path, folder, origin=origin)
    except OSError as error:
        raise ConvertError(
            f"{path}: cannot be converted beside itself ({error.strerror or error}): `invoke convert {path} "
            "--output-dir` a folder that you may write into, and give that as the model"
        ) from None
    log.info("model_converted", file=str(path), of=made.toolkit, weights=made.num_weights, to=str(folder))
    return folder


def convert_once(path: Path, folder: Path, *, num_heads: int | None = None, origin: Origin | None = None) -> Converted:
    """Convert a file, unless the folder was made of it before.

    Raises:
        ConvertError: As `convert_file`; or something else has that name, or another number of heads; or the note in it
            is damaged.
    """
    check_file(path)
    if not folder.exists() and not folder.is_symlink():
        return convert_file(path, folder, num_heads=num_heads, origin=origin)
    note = read_note(folder)
    if not note:
        raise ConvertError(
            f"{folder}: is there, and was not made from {path.name}, nor from any such file: it is left as it is; "
            f"`invoke convert {path} --output-dir` another folder"
        )
    if not is_made_of(folder, path):
        raise ConvertError(
            f"{folder}: is there, and was not made from {path.name} as it is now; remove it, give another "
            "--output-dir, or give it as the model"
        )
    toolkit, num_weights, temperature = (note.get(name) for name in ("toolkit", "num_weights", "temperature"))
    with suppress(OSError, ValueError):
        had = read_object(folder / "config.json").get("num_attention_heads")
        if num_heads not in (None, had):
            raise ConvertError(
                f"{folder}: is there, and was made with {had} heads of attention, not {num_heads}; remove it, or give "
                "another --output-dir"
            )
    if type(num_weights) is not int or not isinstance(temperature, float | None):
        raise ConvertError(f"{folder / NOTE}: damaged; remove {folder}, and convert {path.name} again")
    return Converted(folder, str(toolkit), num_weights, temperature)
