"""What a task was given, from a command line or as keywords: its own options, and the configuration it resolves to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from runyoro_ssl.bench.options import BenchOptions
from runyoro_ssl.commands.options import OWN
from runyoro_ssl.config import Config
from runyoro_ssl.errors import ConfigError, did_you_mean
from runyoro_ssl.logs import get_logger
from runyoro_ssl.redaction import hide
from runyoro_ssl.resolve import best_profile, flags_to_overrides, load_config
from runyoro_ssl.setting import Section

Own = TypeVar("Own", bound=Section)
SOURCES = ("profile", "config", "set")
"""Options that say where settings come from."""
CHOOSES_PROFILE = ("train", "doctor")
"""Tasks that take the profile for the best device present where none is given."""


def own_options(schema: type[Own], given: Mapping[str, Any]) -> Own:
    """The options of a task that are no settings, as `schema` has them.

    Raises:
        ConfigError: Names the option, the value seen and what is accepted.
    """
    chosen = {name: value for name, value in given.items() if name in schema.model_fields and value is not None}
    try:
        return schema.model_validate(chosen)
    except ValidationError as error:
        first = error.errors()[0]
        flag = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise ConfigError(f'{flag} is "{first["input"]}": {first["msg"][:1].lower()}{first["msg"][1:]}') from None


def resolve(task: str, given: Mapping[str, Any]) -> Config:
    """The configuration of a task, its secrets hidden from now on.

    Args:
        task: Its name.
        given: Its options by name: `profile`, `config` (a TOML file), `set` (strings
            `section.field=value`, or a mapping), and any setting of the sections it reads. What is None was not given.

    Raises:
        ConfigError: Names the setting, the value seen and what is accepted.
    """
    own = {name for schema in OWN[task] for name in schema.model_fields} - {"fp16", "bf16"}
    flags = {name: value for name, value in given.items() if name not in own and name not in SOURCES}
    profile, config_file, settings = (given.get(name) for name in SOURCES)
    if profile is None and task in CHOOSES_PROFILE:
        profile = best_profile()
        get_logger().info("profile_chosen", profile=profile, because="it suits the best device present")
    config = load_config(
        profile=None if profile is None else str(profile),
        config_file=None if config_file is None else str(config_file),
        settings=settings or (),
        flags=flags_to_overrides(task, flags),
    )
    hide(config.model_dump(mode="json"))
    return config


def bench_options(given: Mapping[str, Any]) -> BenchOptions:
    """The options of a bench. Raises ConfigError for one that there is not."""
    known = [field.name for field in fields(BenchOptions)]
    for name in given:
        if name not in known:
            raise ConfigError(f'bench has no option "{name}"{did_you_mean(name, known)}; there are: {", ".join(known)}')
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in {"audio_dir", "json"} & chosen.keys():
        chosen[name] = Path(chosen[name])
    return BenchOptions(**chosen)
