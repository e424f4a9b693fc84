"""What a task was given, from a command line or as keywords: its own options, and the configuration it resolves to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from runyoro_ssl.bench.options import BenchOptions
from runyoro_ssl.check.options import CheckOptions
from runyoro_ssl.commands.options import TASKS, options_of
from runyoro_ssl.commands.own import PrecisionOptions, TrainOptions
from runyoro_ssl.commands.recipe import choose_recipe, show_recipe
from runyoro_ssl.commands.resuming import settings_to_go_on_with
from runyoro_ssl.config import Config
from runyoro_ssl.config.recipe import Recipe
from runyoro_ssl.errors import ConfigError, did_you_mean, did_you_mean_option
from runyoro_ssl.logs import get_logger
from runyoro_ssl.redaction import hide
from runyoro_ssl.resolve import (
    best_profile,
    gather_given,
    in_plain_words,
    load_config,
    refuse_undecodable,
    section_type,
)
from runyoro_ssl.setting import Section, marks_of

Own = TypeVar("Own", bound=Section)
SOURCES = ("profile", "config", "set")
"""Options that say where settings come from."""


def own_options(schema: type[Own], given: Mapping[str, Any], *, alone: bool = False) -> Own:
    """The options of a task that are no settings, as `schema` has them. `alone`: the task takes no others.

    Raises:
        ConfigError: Names the option, the value seen and what is accepted.
    """
    if alone:
        _refuse_unknown(given, schema.model_fields)
    chosen = {name: value for name, value in given.items() if name in schema.model_fields and value is not None}
    for name, value in chosen.items():
        refuse_undecodable(value, f"--{name.replace('_', '-')}")
    try:
        return schema.model_validate(chosen)
    except ValidationError as error:
        first = error.errors()[0]
        flag = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise ConfigError(f'{flag} is "{first["input"]}": {in_plain_words(first)}') from None


def resolve(task: str, given: Mapping[str, Any]) -> Config:
    """The configuration of a task, its secrets hidden from now on.

    Args:
        task: Its name.
        given: Its options by name: `profile`, `config` (a TOML file), `set` (strings
            `section.field=value`, or a mapping), and any setting of the sections it reads. What is None was not given.

    Raises:
        ConfigError: Names the setting, the value seen and what is accepted.
    """
    own = {name for schema in TASKS[task].own for name in schema.model_fields} - {"fp16", "bf16"}
    flags = {name: value for name, value in given.items() if name not in own and name not in SOURCES}
    profile, config_file, settings = (given.get(name) for name in SOURCES)
    settings = [settings] if isinstance(settings, str) else settings or ()
    if not isinstance(settings, Mapping) and not all(isinstance(one, str) for one in _listed(settings)):
        raise ConfigError(f'set is {settings!r}; give a mapping {{"train.seed": 1}}, or strings "train.seed=1"')
    sources: dict[str, Any] = {
        "profile": None if profile is None else str(profile),
        "config_file": None if config_file is None else str(config_file),
        "settings": settings,
        "flags": nested(task, flags),
    }
    base: dict[str, Any] = {}
    recipe: Recipe | None = None
    if task == "train":
        asked, asked_for = load_config(**sources), gather_given(**sources)
        base = settings_to_go_on_with(asked, asked_for)
        recipe = _recipe(given, asked, goes_on=bool(base))
        base = base or (recipe.beside(asked_for) if recipe else {})
    if profile is None and TASKS[task].chooses_profile and "hardware" not in base:
        sources["profile"] = best_profile()
        get_logger().info("profile_chosen", profile=sources["profile"], because="it suits the best device present")
    config = load_config(**sources, base=base)
    hide(config.model_dump(mode="json"))
    if recipe is not None:
        show_recipe(recipe, config)
    return config


def _recipe(given: Mapping[str, Any], asked: Config, *, goes_on: bool) -> Recipe | None:
    """The recipe that a new run was asked for; one that goes on has its settings already."""
    name = own_options(TrainOptions, given).recipe
    if name is None:
        return None
    if goes_on:
        get_logger().info("recipe_not_used", because="the run goes on with the settings that it has")
        return None
    return choose_recipe(name, asked)


def nested(task: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Nest a task's flags by section; flags left at None are absent. `fp16`/`bf16` become `hardware.precision`.

    Raises:
        ConfigError: The task reads no setting of that name.
    """
    overrides: dict[str, Any] = {}
    for flag, value in flags.items():
        if value is None or flag in ("fp16", "bf16"):
            continue
        section, name = find_setting(task, flag)
        overrides.setdefault(section, {})[name] = value
    precision = _precision(own_options(PrecisionOptions, flags))
    if precision is not None:
        overrides.setdefault("hardware", {})["precision"] = precision
    return overrides


def find_setting(task: str, flag: str) -> tuple[str, str]:
    """(section, field) of a flag of a task, or of the setting of that name in the first section that has one.

    Raises:
        ConfigError: There is none.
    """
    fields = [
        (section, *pair) for section in TASKS[task].sections for pair in section_type(section).model_fields.items()
    ]
    for section, name, field in fields:
        marks = marks_of(field)
        if task in marks["flag_of"] and flag == (marks["flag"] or name):
            return section, name
    for section, name, _ in fields:
        if flag == name:
            return section, name
    known = [option.name for option in options_of(task)] + [name for _, name, _ in fields]
    raise ConfigError(
        f'{task} has no option or setting "{flag}"{did_you_mean_option(flag, known)}; `runyoro-ssl {task} --help` '
        "lists the options, and runyoro_ssl/config/ every setting"
    )


def _precision(given: PrecisionOptions) -> str | None:
    """The value of `hardware.precision` that the two switches ask for; None: neither was given."""
    if given.fp16 and given.bf16:
        raise ConfigError("--fp16 and --bf16 exclude each other; give one")
    if given.fp16 is None and given.bf16 is None:
        return None
    return "fp16" if given.fp16 else "bf16" if given.bf16 else "fp32"


def bench_options(given: Mapping[str, Any]) -> BenchOptions:
    """The options of a bench. Raises ConfigError for one that there is not."""
    _refuse_unknown(given, [field.name for field in fields(BenchOptions)])
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in {"audio_dir", "json"} & chosen.keys():
        chosen[name] = Path(str(chosen[name]))
    return BenchOptions(**chosen)


def check_options(given: Mapping[str, Any]) -> CheckOptions:
    """The options of a check, among others that were given."""
    names = {field.name for field in fields(CheckOptions)}
    chosen = {name: value for name, value in given.items() if name in names and value is not None}
    if "json" in chosen:
        chosen["json"] = Path(str(chosen["json"]))
    return CheckOptions(**chosen)


def _listed(value: Any) -> Iterable[Any]:
    """Its parts; of what has none, itself."""
    return value if isinstance(value, list | tuple) else [value]


def _refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f'there is no option "{name}"{did_you_mean(name, known)}; there are: {", ".join(known)}')
