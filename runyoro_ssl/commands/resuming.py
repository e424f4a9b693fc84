"""A run that goes on has its own settings, from its run.toml; what is given now replaces them, and is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runyoro_ssl.config import Config
from runyoro_ssl.devices import available_devices
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.logs import get_logger
from runyoro_ssl.model.source import RUN_FILE
from runyoro_ssl.option import AUTO
from runyoro_ssl.redaction import shortly
from runyoro_ssl.resolve import home_of_run, in_plain_words, read_toml, section_type

log = get_logger()

MAX_NAMED = 8
OF_ONE_CALL = ("resume_from_checkpoint", "override_mismatch", "stop_after")
"""Settings of `train` that say what one call does, and not what the run is."""


def settings_to_go_on_with(asked: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run that is to go on, by section; nothing where none is.

    What was decided for a machine is decided again. On another device than the run's, all of its hardware is.

    Args:
        asked: The configuration as it would be without them.
        given: What was given now, by section and setting.
    """
    wanted, output_dir = asked.train.resume_from_checkpoint, asked.train.output_dir
    if wanted is None:
        return {}
    folder = output_dir if wanted == "last" else Path(wanted).absolute().parent
    values = _read(folder)
    if not values and wanted != "last" and "output_dir" in given.get("train", {}):
        values = _read(output_dir)  # the checkpoint was moved out of its run's folder
    if not values:
        if wanted == "last" and "output_dir" not in given.get("train", {}):
            _refuse_to_begin(folder)
        return {}
    train, hardware = values.setdefault("train", {}), values.setdefault("hardware", {})
    for name in OF_ONE_CALL:
        train.pop(name, None)
    _check(values, given, folder / RUN_FILE)
    _find_again(values, folder)
    _give_way(train, given.get("train", {}))
    train["output_dir"] = str(output_dir if "output_dir" in given.get("train", {}) else folder)
    if "num_train_epochs" in given.get("train", {}):
        train.pop("max_steps", None)
    fitted = hardware.pop("fitted", ())
    if isinstance(fitted, list):
        hardware |= dict.fromkeys((name for name in fitted if name in hardware), AUTO)
    device = given.get("hardware", {}).get("device", hardware.get("device"))
    if device != hardware.get("device") or device not in available_devices():
        del values["hardware"]
    return values


def _check(values: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> None:
    """Refuse what a run.toml holds and no run wrote, by its name, unless something else is given now."""
    for section, fields in values.items():
        own = {name: value for name, value in fields.items() if name not in given.get(section, {})}
        try:
            section_type(section).model_validate({name: value for name, value in own.items() if name != "fitted"})
        except ValidationError as error:
            first = error.errors()[0]
            setting = ".".join(map(str, (section, *first["loc"][:1])))
            seen = f"{setting} is {shortly(first['input'])}"
            raise ConfigError(
                f"{path}: {seen}: {in_plain_words(first)}; mend that line, or give what the run had by --set"
            ) from None


def _find_again(values: dict[str, Any], folder: Path) -> None:
    """Paths that the run had from the folder in which it began are taken from there, not from here."""
    home = home_of_run(folder, str(values["train"].get("output_dir", "")))
    if home is None or home == Path.cwd():
        return
    for section, name in (("train", "processed_dataset_path"), ("model", "model_name_or_path")):
        path = values.get(section, {}).get(name)
        if path and (home / path).exists():
            values[section][name] = str(home / path)
    sources = values["train"].get("sources")
    for source in sources if isinstance(sources, list) else []:
        if isinstance(source, dict) and (home / str(source.get("path"))).exists():
            source["path"] = str(home / source["path"])


def _give_way(train: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Have the run's target be where it is said to be now: as its dataset, or as the first of its sources."""
    if "sources" in given:
        train.pop("processed_dataset_path", None)
    elif "processed_dataset_path" in given and train.get("sources"):
        first, *others = train["sources"]
        train["sources"] = [{**first, "path": str(given["processed_dataset_path"])}, *others]


def _refuse_to_begin(folder: Path) -> None:
    """Raise ConfigError where there is nothing to go on with in a folder that nobody named."""
    from runyoro_ssl.train.checkpoints.folder import runs_beside

    if not folder.is_dir():
        beside = [str(path) for path in runs_beside(folder)[:MAX_NAMED]]
        others = f"beside it: {', '.join(beside)}" if beside else "`invoke runs --folder FOLDER` lists those in another"
        raise ConfigError(f"{folder}: there is no run to go on with; give its --output-dir ({others})")


def _read(folder: Path) -> dict[str, Any]:
    """The run.toml of a folder, without settings that this version does not have; nothing where it cannot be read."""
    path = folder / RUN_FILE
    if not path.is_file():
        return {}
    try:
        path.read_bytes()
        read = read_toml(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}), and holds the settings of the run; give yourself the right to "
            "read it, or see to the disk that it is on"
        ) from None
    except ConfigError as error:
        log.warning("settings_of_the_run_are_lost", because=str(error), instead="what is given now, and defaults")
        return {}
    known = {name: section_type(name).model_fields for name in Config.model_fields}
    return {
        section: {name: value for name, value in fields.items() if name in known[section]}
        for section, fields in read.items()
        if section in known and isinstance(fields, dict)
    }
