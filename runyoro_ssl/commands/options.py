"""The options of every task: of a setting from its field in `config`, of what is no setting from its field in `own`."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from runyoro_ssl.bench.options import options_of_bench, options_of_class
from runyoro_ssl.check.options import CheckOptions
from runyoro_ssl.commands.own import (
    ConvertOptions,
    DoctorOptions,
    DonorsOptions,
    EmbedOptions,
    EvaluateOptions,
    FilelessSourceOptions,
    ManifestOptions,
    PrecisionOptions,
    PrepareOptions,
    PublishOptions,
    RunsOptions,
    SmokeOptions,
    SourceOptions,
    TrainOptions,
)
from runyoro_ssl.option import Option, OptionKind, shown
from runyoro_ssl.resolve import list_profiles, section_type
from runyoro_ssl.setting import Seconds, Section, marks_of

KINDS: dict[type, OptionKind] = {bool: "switch", int: "int", float: "float", Path: "path", str: "text", tuple: "list"}
PLACES = ("one", "other", "files", "file", "pool")
"""Options that may be given without their names. A list takes all words that are left."""


@dataclass(frozen=True)
class TaskOptions:
    """What a task takes: `own` options, which are no settings, and settings of `sections`, the most telling first.

    `plain`: own options, too, as dataclasses, for where there is no pydantic. `chooses_profile`: where none is given,
    it takes the one for the best device present.
    """

    own: tuple[type[Section], ...] = ()
    sections: tuple[str, ...] = ()
    chooses_profile: bool = False
    plain: tuple[type, ...] = ()


TASKS: dict[str, TaskOptions] = {
    "manifest": TaskOptions((ManifestOptions, FilelessSourceOptions), ("hardware", "prepare")),
    "prepare": TaskOptions((PrepareOptions, SourceOptions), ("prepare", "model", "hardware", "plugins")),
    "train": TaskOptions(
        (TrainOptions, PrecisionOptions, SourceOptions),
        ("train", "model", "adapter", "masking", "hardware", "health", "plugins"),
        chooses_profile=True,
    ),
    "evaluate": TaskOptions((EvaluateOptions, PrecisionOptions, SourceOptions), ("hardware",), chooses_profile=True),
    "runs": TaskOptions((RunsOptions,)),
    "publish": TaskOptions((PublishOptions,)),
    "embed": TaskOptions((EmbedOptions, SourceOptions), ("hardware", "model"), chooses_profile=True),
    "convert": TaskOptions((ConvertOptions, SourceOptions), ("hardware",), chooses_profile=True),
    "donors": TaskOptions((DonorsOptions, SourceOptions), ("model", "hardware", "prepare"), chooses_profile=True),
    "smoke": TaskOptions((SmokeOptions,)),
    "bench": TaskOptions(),  # its options are in `bench.options`, which works where there is no pydantic
    "plugins": TaskOptions((SourceOptions,), ("plugins", "prepare")),
    "doctor": TaskOptions(
        (DoctorOptions, SourceOptions),
        ("model", "adapter", "hardware", "masking", "prepare", "train"),
        chooses_profile=True,
        plain=(CheckOptions,),
    ),
}


def options_of(task: str) -> list[Option]:
    """What a task takes on the command line: its own options, then the settings that name it, by section."""
    if task == "bench":
        return options_of_bench()
    takes = TASKS[task]
    first, *rest = [list(_options_of_section(section, _heading(section))) for section in takes.own] or [[]]
    first += [option for schema in takes.plain for option in options_of_class(schema, _heading(schema))]
    settings = [
        option
        for name in takes.sections
        for option in _options_of_section(section_type(name), f"{name}: {_heading(section_type(name))}", task=task)
    ]
    return [*first, *settings, *(option for options in rest for option in options)]


def _options_of_section(section: type[Section], group: str, *, task: str | None = None) -> Iterator[Option]:
    """The options that are the fields of a section; of one of the configuration, those that are flags of a task."""
    for name, field in section.model_fields.items():
        marks = marks_of(field)
        if task is None or task in marks["flag_of"]:
            yield _option(name, field, group)


def _option(name: str, field: FieldInfo, group: str) -> Option:
    kind, choices = _kind(field.annotation)
    marks = marks_of(field)
    # A setting may be true in a file or profile; one whose flag says no in its own name is only ever given.
    may_be_denied = field.default is None or (bool(marks["flag_of"]) and marks["flag"] is None)
    return Option(
        name=marks["flag"] or name,
        kind=kind,
        help=field.description or "",
        group=group,
        default=shown(field.default),
        choices=tuple(list_profiles()) if name == "profile" else choices,
        has_three_states=kind == "switch" and may_be_denied,
        has_a_place=name in PLACES,
    )


def _kind(annotation: Any) -> tuple[OptionKind, tuple[str, ...]]:
    """How a value of this type is given, and which there are if they are few."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not types.NoneType)
    if get_origin(annotation) is Annotated:
        return ("duration", ()) if annotation == Seconds else _kind(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return "text", get_args(annotation)
    return KINDS[get_origin(annotation) or annotation], ()


def _heading(section: type) -> str:
    """What a section is for, in as few words as its docstring begins with."""
    return re.split(r"[.;]( |$)", " ".join((section.__doc__ or "").split()), maxsplit=1)[0]
