"""`convert`: a checkpoint of fairseq2 or fairseq to a folder that transformers reads, heard on the user's own clips."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl.commands.closing import close, command
from runyoro_ssl.commands.given import own_options, resolve
from runyoro_ssl.commands.own import ConvertOptions
from runyoro_ssl.errors import ConfigError, ConvertError
from runyoro_ssl.hub.known import KNOWN, full_name
from runyoro_ssl.logs import print_table

if TYPE_CHECKING:
    from runyoro_ssl.evaluate.both_ways import BothWays
    from runyoro_ssl.foreign.write import Converted


@dataclass(frozen=True)
class ConvertResult:
    """What was written, and what was heard with it; None where no dataset was given."""

    converted: Converted
    heard: BothWays | None


def convert(**given: Any) -> ConvertResult:
    """Write a pre-trained model of fairseq2 or fairseq as transformers would write it, once for a file.

    Args:
        **given: The options of the task, by name (`runyoro-ssl convert --help`); `profile`, `config`, `set`, and any
            setting of `hardware`.

    Returns:
        What was written; and, with `data`, what it foretells of your own clips.

    Raises:
        RunyoroError: A file that is no such model, or that guesses on your clips: nothing is left.
    """
    options = own_options(ConvertOptions, given)
    if options.file is None:
        raise ConfigError("convert what? Give the file: convert omniASR-W2V-300M.pt")
    config = resolve("convert", given)
    from runyoro_ssl.commands.foreign import hear_converted
    from runyoro_ssl.dataset.read import read_fingerprint
    from runyoro_ssl.disk.durable import verify
    from runyoro_ssl.foreign.beside import convert_once

    if options.data is not None:
        read_fingerprint(options.data)  # before the work
    folder = _folder_for(options.file, options.output_dir)
    was_there = folder.exists()
    converted = convert_once(options.file, folder, num_heads=options.num_heads)
    if was_there and (problem := verify(folder)):
        raise ConvertError(f"{folder}: {problem}; remove it, and convert {options.file} again")
    try:
        heard = None if options.data is None else hear_converted(folder, options.data, config)
    except BaseException:
        if not was_there:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return ConvertResult(converted, heard)


def _folder_for(file: Path, given: Path | None) -> Path:
    """The folder to write: that given, or the file's name without its ending."""
    from runyoro_ssl.foreign.read import check_file

    if not file.exists() and (name := full_name(str(file))) in KNOWN:
        fetch = command("doctor", fetch=True, model_name_or_path=name)
        raise ConfigError(f"{file}: a model of the hub, and no file here; `{fetch}` fetches and converts it")
    check_file(file)
    folder = given or file.with_suffix("")
    if folder == file:
        raise ConfigError(f"{file}: the folder to write would have the name of the file; give another --output-dir")
    return folder


def show(result: ConvertResult, _given: Mapping[str, Any]) -> None:
    """Print what it is, and what comes next."""
    made = result.converted
    rows = [["written by", made.toolkit], ["weights", f"{made.num_weights:,}"]]
    if made.temperature is not None:
        rows.append(["temperature of its codes when it was saved", f"{made.temperature:.2f}"])
    if (heard := result.heard) is not None:
        rows += [
            ["loss on your clips, normalised", f"{heard.normalised:.2f} nats"],
            ["loss on your clips, as they are", f"{heard.as_they_are:.2f} nats"],
            ["loss of guessing", f"{heard.guessing:.2f} nats"],
            ["clips are normalised", "yes" if heard.normalises else "no: it foretells them better as they are"],
        ]
    print_table(made.folder.name, ["what", "value"], rows)
    then = [("train on", command("train", model_name_or_path=made.folder))]
    close([("a folder that transformers reads", made.folder)], then=then)
