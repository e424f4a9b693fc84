"""A setting: a field of the configuration, with its default, its help, what it decides, and who takes it as a flag."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from runyoro_ssl.option import Auto

Decides = Literal["clips", "split", "run", "steps", "rounding", "machine", "nothing"]
"""Which finished work another value makes unusable. `clips`: what was decoded and cut; `split`: which clips are held
out; `run`: what was learned, so that a run cannot be resumed. A run may go on on another machine, of which `steps`
decides which clips a step sees (a run keeps its own), `rounding` the last digits, `machine` time and memory. `nothing`:
places, logs, limits."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PathOrAddress = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]
"""A path, or an address whose two slashes a Path would lose."""
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.IGNORECASE)


def parse_duration(value: Any) -> Any:
    """`5h30m`, `90m`, `1d12h` as seconds. A number, as in run.toml, is seconds already."""
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None or not any(found.groups()):
        raise ValueError(f'"{value}" is no duration: give days, hours, minutes and seconds, e.g. 5h30m')
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


Seconds = Annotated[PositiveFloat, BeforeValidator(parse_duration)]


def setting(
    default: Any,
    *,
    decides: Decides | tuple[Decides, ...],
    flag_of: str = "",
    flag: str | None = None,
    **limits: Any,
) -> Any:
    """A field: its default, what it decides, the tasks that take it as a flag ("prepare train"), and its limits.

    Its help is the docstring below it; its flag has its name, unless `flag` is another. What is no flag is set by
    `--set section.field=value`, or in a file.
    """
    decided = (decides,) if isinstance(decides, str) else decides
    marks: dict[str, Any] = {"decides": decided, "flag_of": tuple(flag_of.split()), "flag": flag}
    return Field(default, json_schema_extra=marks, **limits)


_SWITCHES = (bool, bool | None, bool | Auto)


class Section(BaseModel):
    """One concern of the configuration: frozen, and closed to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation not in _SWITCHES:
            raise ValueError(f"it is {str(value).lower()}, and needs a value")
        return value


def marks_of(field: FieldInfo) -> dict[str, Any]:
    """What `setting` was told of a field: `decides`, `flag_of`, `flag`; of a field that is no setting, nothing."""
    marks = field.json_schema_extra
    return marks if isinstance(marks, dict) else {"decides": (), "flag_of": (), "flag": None}


def deciding(what: Decides, section: type[Section]) -> tuple[str, ...]:
    """The settings of a section that decide it, e.g. which clips there are, in the order of the schema."""
    return tuple(name for name, field in section.model_fields.items() if what in marks_of(field)["decides"])
