"""The options of every task. A setting's option is made from its field in `config`; what is no setting has one here."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from runyoro_ssl.bench.options import options_of_bench, options_of_class
from runyoro_ssl.check.options import CheckOptions
from runyoro_ssl.config import PrepareConfig, TrainConfig
from runyoro_ssl.option import Option, OptionKind, shown
from runyoro_ssl.resolve import list_profiles, section_type
from runyoro_ssl.setting import Seconds, Section, marks_of

NameOrNumber = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A column of a table; from a notebook, a number may come as one."""
KINDS: dict[type, OptionKind] = {bool: "switch", int: "int", float: "float", Path: "path", str: "text", tuple: "list"}


class ManifestOptions(Section):
    """Recordings and manifest."""

    audio_dir: Path = Path("recordings")
    """Folder of recordings, walked recursively."""
    output: Path = Path(PrepareConfig().manifest_path)
    """Manifest to write."""
    speaker_from: str | None = None
    """Who speaks, by the path below --audio-dir: `folder` (the first), `parent` (the last), `name` (the file's, up to
    its first - _ . or blank); or a regular expression whose group is the speaker: '^([^/]+)/'"""
    overwrite: bool = False
    """Replace an existing manifest."""
    table: Path | None = None
    """CSV or TSV file, or data folder of Kaldi, that says who speaks in which file; only files it names are wanted."""
    path_column: NameOrNumber | None = None
    """Column that has the file: its name in the header, or its number from 1 in a table without one."""
    speaker_column: NameOrNumber | None = None
    """Column that has the speaker."""
    text_column: NameOrNumber | None = None
    """Column that has what is said."""
    language_column: NameOrNumber | None = None
    """Column that has the language."""
    recording_column: NameOrNumber | None = None
    """Column that has the recording which splits keep together. Not given: each file is one."""
    licence_column: NameOrNumber | None = None
    """Column that has the licence."""
    start_column: NameOrNumber | None = None
    """Column that has where in the file the row's part begins: seconds, or h:m:s."""
    end_column: NameOrNumber | None = None
    """Column that has where it ends."""
    licence: str | None = None
    """Licence of all recordings for which the table has no other."""


class PrepareOptions(Section):
    """What this call does."""

    dry_run: bool = False
    """Only say what each filter would drop. What is decoded for it is kept for the real run."""
    overwrite: bool = False
    """Replace an existing dataset."""


class TrainOptions(Section):
    """What this call does."""

    dry_run: bool = False
    """Only say what the run would be, how long it would take, and whether memory and disks hold it. Writes nothing."""


class SmokeOptions(Section):
    """What is tried."""

    audio_dir: Path | None = None
    """Real recordings to use instead of synthetic speech."""
    work_dir: Path | None = None
    """New folder to keep everything in. Not given: a temporary one."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the corpus, the weights and the run."""


class DoctorOptions(Section):
    """What is done beside looking."""

    fetch: bool = False
    """Fetch the base model into the hub's cache, for a place without a network."""
    check: bool = False
    """Compute and learn on the device for some minutes, and say what is right, what is wrong and what is slow."""
    what_fits: bool = False
    """Say which XLS-R fits on which Mac or GPU, by the way it is trained, and how fast that may be."""


class RunsOptions(Section):
    """Runs."""

    one: Path | None = None
    """A run's folder: with another one, they are compared."""
    other: Path | None = None
    """The other."""
    folder: Path = TrainConfig().output_dir.parent
    """Where runs are looked for, in folders below, too."""


class PrecisionOptions(Section):
    """Precision; replaces the profile's."""

    fp16: bool | None = None
    """Half precision with loss scaling."""
    bf16: bool | None = None
    """bfloat16."""


class SourceOptions(Section):
    """Where settings come from: defaults < profile < file < --set < options."""

    profile: str | None = None
    """What the machine can do, or a TOML file of that. Not given: `train` and `doctor` take that of the best device."""
    config: Path | None = None
    """TOML file with settings of any section, such as a run.toml."""
    set: tuple[str, ...] = ()
    """Any setting of runyoro_ssl/config/, e.g. train.max_grad_norm=0.5; a value is TOML. Repeatable."""


class FilelessSourceOptions(Section):
    """Where settings come from: defaults < --set < options."""

    set: tuple[str, ...] = ()
    """Any setting of runyoro_ssl/config/, e.g. prepare.max_recording_sec=7200; a value is TOML. Repeatable."""


PLACES = ("one", "other")
"""Options that may be given without their names."""


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
    "runs": TaskOptions((RunsOptions,)),
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
