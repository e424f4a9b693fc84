"""An option of a task: what a command line, its help and a notebook need to know of one field of a schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

AUTO: Literal["auto"] = "auto"
Auto = Literal["auto"]
"""The value of a setting that is decided where it is used: from the machine, the model and the data at hand."""
OptionKind = Literal["text", "path", "int", "float", "duration", "switch", "list"]


@dataclass(frozen=True)
class Option:
    """One option. `name` is that of its field; `group` is the heading it stands under; `default` is how help shows it.

    A `switch` needs no value. One that `has_three_states` is given, denied (`--name=false`), or left to the profile.
    One that `has_a_place` may be given without its name, in that order.
    """

    name: str
    kind: OptionKind
    help: str
    group: str
    default: str = ""
    choices: tuple[str, ...] = ()
    has_three_states: bool = False
    has_a_place: bool = False

    @property
    def flag(self) -> str:
        """As it is typed: `--max-steps`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def usage(self) -> str:
        """As help shows it: `--max-steps=INT`."""
        if self.kind == "switch":
            return self.flag
        if self.has_a_place:
            return f"{self.name.upper()}{' …' if self.kind == 'list' else ''}"
        value = "|".join(self.choices) or {"list": "SECTION.FIELD=VALUE"}.get(self.kind, self.kind.upper())
        return f"{self.flag}={value}"

    @property
    def explained(self) -> str:
        """Its help, with its default."""
        return f"{' '.join(self.help.split())}{f' [{self.default}]' if self.default else ''}"


def as_typed(value: Any) -> str:
    """A value as it would be given on a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown(default: Any) -> str:
    """A default value as help shows it; nothing for none, and for a switch that is off."""
    if default is None or default is False or default == ():
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)
