"""`doctor --check`: the device at hand checked, in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyoro_ssl import logs
from runyoro_ssl.check.options import CheckOptions, prepare_environment
from runyoro_ssl.commands.ending import end
from runyoro_ssl.commands.given import check_options, resolve
from runyoro_ssl.config import Config, HardwareConfig
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.option import as_typed
from runyoro_ssl.resolve import gather_given, profile_for

if TYPE_CHECKING:
    from runyoro_ssl.check.finding import Finding

OF_CHECK = {field.name for field in fields(CheckOptions)}
SOURCES = {"profile", "config", "set"}
TRIED = {
    f"hardware.{name}"
    for name in (
        *("device", "precision", "batch_seconds", "update_seconds", "plan_seconds", "clip_lengths", "attention"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "compile"),
        "keep_freed_memory",
    )
}
"""The settings by which a check goes."""
TRIED_ALONE: dict[str, tuple[Any, ...]] = {
    "train.optimizer": ("adamw",),
    "train.freeze_feature_encoder": (False,),
    "train.train_only": ("all",),
    "adapter.kind": ("none",),
    "hardware.sharding": ("none", "auto"),
}
"""Of a setting that makes steps others, the values that it tries."""


@dataclass(frozen=True)
class Checked:
    """What was found of a device, and the file that has it."""

    device: str
    rows: list[Finding]
    path: Path


def check(given: Mapping[str, Any]) -> Checked:
    """Check the device of the profile, of `device`, or the best present; `doctor.json` grows with every row.

    Raises:
        ConfigError: An option that is wrong or says nothing here, an absent device, a file that cannot be written.
    """
    prepare_environment()
    options, hardware = _resolve(given)
    from runyoro_ssl.check.report import Record
    from runyoro_ssl.check.run import run_checks
    from runyoro_ssl.check.settings import resolve_check

    settings = resolve_check(options, hardware)
    record, rows = Record(settings), []
    for row in run_checks(settings):
        record.add(row)
        rows.append(row)
        logs.get_logger().info("checked", what=f"{row.check}: {row.what}", seen=row.value, verdict=row.verdict)
    record.close()
    return Checked(settings.device, rows, settings.json)


def refuse_check_options(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for an option that says nothing without `check`; device and precision are settings, too."""
    for name in OF_CHECK - HardwareConfig.model_fields.keys():
        if given.get(name) is not None:
            raise ConfigError(f"--{name} goes with --check, which is not given; add it")


def show_check(checked: Checked) -> None:
    """Print the table; end with status 1 where something is wrong."""
    from runyoro_ssl.check.report import COLUMNS, cells, is_wrong, summary

    logs.print_table(f"Check of {checked.device}: {summary(checked.rows)}", COLUMNS, list(map(cells, checked.rows)))
    if is_wrong(checked.rows):
        end(f"something is wrong with training on {checked.device} here: see the rows; {checked.path} is for sending")
    logs.get_logger().info("written", file=str(checked.path), has="no names, no paths: for sending")


def _resolve(given: Mapping[str, Any]) -> tuple[CheckOptions, HardwareConfig]:
    """The options, with the device in them, and what a run on it would be set to."""
    from runyoro_ssl.bench.run import present_device

    options, about_a_run = check_options(given), {}
    for name, value in given.items():
        if name in OF_CHECK or name == "check" or value is None or value == ():
            continue
        if name in ("fetch", "what_fits") and not value:
            continue
        if name not in SOURCES and f"hardware.{name}" not in TRIED:
            raise _says_nothing(f"--{name.replace('_', '-')}")
        about_a_run[name] = value
    if options.device is not None and "profile" not in about_a_run:
        about_a_run["profile"] = profile_for(present_device(options.device))
    config = resolve("doctor", about_a_run)
    _refuse_untried(config, about_a_run.get("set", ()))
    hardware = config.hardware
    if options.device not in (None, hardware.device):
        raise ConfigError(f"--device {options.device}, but the settings are for {hardware.device}; give one of them")
    return replace(options, device=hardware.device), hardware


def _refuse_untried(config: Config, settings: Any) -> None:
    """Raise ConfigError for `--set` of what a check does not try, and for a run that trains in another way."""
    given = gather_given(settings=[settings] if isinstance(settings, str) else settings)
    names = [f"{section}.{field}" for section, fields in given.items() for field in fields]
    for name in names:
        if name not in TRIED | TRIED_ALONE.keys():
            raise _says_nothing(f"--set {name}")
    for name, tried in TRIED_ALONE.items():
        section, field = name.split(".")
        value = getattr(getattr(config, section), field)
        if value not in tried:
            raise ConfigError(
                f"{name} is {as_typed(value)}, which --check does not try; leave it out, or check without it: "
                f"--set {name}={as_typed(tried[0])}"
            )


def _says_nothing(option: str) -> ConfigError:
    return ConfigError(
        f"{option} says nothing to --check, whose models are drawn (--size chooses), and learn from noise; leave it out"
    )
