"""Fill the configuration: schema defaults < profile < config file < flags, each mistake explained in one line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from runyoro_ssl.config import Config
from runyoro_ssl.config.train import usual_output_dir
from runyoro_ssl.devices import available_devices
from runyoro_ssl.errors import ConfigError, did_you_mean
from runyoro_ssl.option import AUTO
from runyoro_ssl.redaction import REDACTED
from runyoro_ssl.setting import Section

MOST_TOML_BYTES = 1 << 20
OR_AUTO = f', or "{AUTO}"'
PLAIN = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "a whole number is needed"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number is needed, such as 0.001"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false is needed"),
    **dict.fromkeys(("model_type", "model_attributes_type"), "settings are needed, such as { name = value }"),
}
"""What pydantic says in words of its own, by the kind of its complaint."""


def section_type(name: str) -> type[Section]:
    """The schema of a section."""
    return type(getattr(Config(), name))


def profile_dirs() -> list[Path]:
    """Folders searched for profiles: the project's, the checkout's, the installed package's."""
    package = Path(__file__).resolve().parent
    return [Path.cwd() / "profiles", package.parent / "profiles", package / "profiles"]


def list_profiles() -> dict[str, Path]:
    """Profiles by name; the nearest folder wins."""
    found: dict[str, Path] = {}
    for folder in profile_dirs():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def profile_device(path: Path) -> str:
    """The device a profile is for."""
    return str(read_toml(path).get("device", "cpu"))


def load_config(
    *,
    profile: str | None = None,
    config_file: str | None = None,
    settings: Iterable[str] | Mapping[str, Any] = (),
    flags: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Resolve the configuration.

    Args:
        base: Settings by section, which all others replace: those of a run that goes on.
        profile: Name of a hardware profile, or a path to one.
        config_file: A TOML file with any of the sections.
        settings: `section.field=value` strings, where a value is TOML or a bare string; or a mapping of such names.
        flags: Nested overrides, `{section: {field: value}}`, as a task makes them of its flags.

    Raises:
        ConfigError: Names the setting, the value seen and what is accepted.
    """
    values: dict[str, Any] = {}
    _merge(values, base or {})
    _merge(values, gather_given(profile=profile, config_file=config_file, settings=settings, flags=flags))
    _refuse_unwritable(values)
    try:
        config = Config.model_validate(values)
        if "output_dir" in config.train.model_fields_set:
            return config
        usual = usual_output_dir(config.train.language, config.model.model_name_or_path)
        return config.model_copy(update={"train": config.train.model_copy(update={"output_dir": usual})})
    except ValidationError as error:
        raise ConfigError("; ".join(map(_explain, _by_setting(error.errors())))) from None


def gather_given(
    *,
    profile: str | None = None,
    config_file: str | None = None,
    settings: Iterable[str] | Mapping[str, Any] = (),
    flags: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What was given, by section and setting, as `load_config` takes it: each replaces those before it. Not checked."""
    values: dict[str, Any] = {}
    if profile is not None:
        _merge(values, {"hardware": _read_profile(_find_profile(profile))})
    if config_file is not None:
        _merge(values, read_toml(Path(config_file)))
    pairs = settings.items() if isinstance(settings, Mapping) else map(_parse_setting, settings)
    for name, value in pairs:
        _merge(values, _nest(name, value))
    _merge(values, flags or {})
    return values


def _refuse_unwritable(value: Any, name: str = "") -> None:
    """Refuse what a run.toml cannot say: what stands in a secret's place, and bytes that are no UTF-8."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unwritable(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _refuse_unwritable(inner, f"{name}.{number}")
    elif isinstance(value, str) and REDACTED in value:
        raise ConfigError(f'{name} is "{value}": the file does not hold this secret; give it with --set {name}=...')
    else:
        refuse_undecodable(value, name)


def refuse_undecodable(value: Any, name: str) -> None:
    """Refuse a name whose bytes are no UTF-8: no file that a task writes could say it; or one of which is zero."""
    if isinstance(value, str | Path) and "\0" in str(value):
        raise ConfigError(f'{name} is "{value}": no name can have a zero byte in it; leave that out')
    if isinstance(value, str | Path) and any("\ud800" <= character <= "\udfff" for character in str(value)):
        raise ConfigError(f'{name} is "{value}": this name is not UTF-8; rename it, or give another')


def _find_profile(profile: str) -> Path:
    if profile.endswith(".toml"):
        return Path(profile)
    profiles = list_profiles()
    if profile not in profiles:
        raise ConfigError(f'no profile "{profile}"{did_you_mean(profile, profiles)}; there are: {", ".join(profiles)}')
    return profiles[profile]


def _read_profile(path: Path) -> dict[str, Any]:
    """The settings of a profile, all of them of `hardware`."""
    found = read_toml(path)
    for name, value in found.items():
        if isinstance(value, dict):
            raise ConfigError(f"{path}: a profile holds settings of hardware alone, not [{name}]; give it as --config")
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises ConfigError if there is none, or none that can be read."""
    try:
        with path.open("rb") as file:  # a pipe, too: --config <(…)
            content = file.read(MOST_TOML_BYTES + 1)
        if len(content) > MOST_TOML_BYTES:
            raise ConfigError(f"{path}: more than {MOST_TOML_BYTES:,} bytes, which no TOML file of settings has")
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8, as TOML is, at byte {error.start}; save it as UTF-8") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ConfigError(f"{path}: not a readable TOML file: {error}") from None


def home_of_run(folder: Path, output_dir: str) -> Path | None:
    """The folder from which a run was started, as its own folder tells by the setting of the same; None: not known.

    Paths that the run had from there are taken from there, wherever one stands now.
    """
    began, was = folder.absolute(), Path(output_dir)
    if not was.parts or was.is_absolute() or began.parts[-len(was.parts) :] != was.parts:
        return None
    return Path(*began.parts[: -len(was.parts)]).resolve()


def _parse_setting(setting: str) -> tuple[str, Any]:
    """The name and the value of `section.field=value`."""
    name, equals, text = setting.partition("=")
    if not equals or not all(name.strip().split(".")):
        raise ConfigError(f'--set "{setting}" is not section.field=value, e.g. --set train.learning_rate=1e-4')
    try:
        return name.strip(), tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError) as error:
        if text.strip().startswith("["):
            raise ConfigError(f'--set {setting}: not a TOML value ({error}); a list is e.g. ["one", "two"]') from None
        return name.strip(), text


def _nest(name: str, value: Any) -> dict[str, Any]:
    """`{"train": {"seed": 1}}` of `train.seed` and 1."""
    first, *rest = name.split(".")
    for part in reversed(rest):
        value = {part: value}
    return {first: value}


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _by_setting(items: Iterable[Any]) -> list[Mapping[str, Any]]:
    """The complaints of pydantic, one for a setting: of what may be `auto` or something else, that about the latter.

    A list too short because of what was wrong in it is no complaint of its own.
    """
    found: list[Mapping[str, Any]] = []
    for item in items:
        if item["type"] == "too_short" and any(other["loc"][: len(item["loc"])] == item["loc"] for other in found):
            continue
        setting = item["loc"][:-1]
        if item["loc"][-1:] == (f"literal['{AUTO}']",):
            continue
        found.append({**item, "loc": setting, "msg": item["msg"] + OR_AUTO} if _may_be_auto(setting) else item)
    return found


def _may_be_auto(where: Sequence[Any]) -> bool:
    """Whether this is the place of a setting that is `auto` unless it is given."""
    if len(where) != 2:  # noqa: PLR2004 - a section and a field
        return False
    section, field = map(str, where)
    fields = section_type(section).model_fields
    return field in fields and fields[field].default == AUTO


def _explain(item: Mapping[str, Any]) -> str:
    """One pydantic complaint in the house's form."""
    where: Sequence[Any] = item["loc"]
    name = ".".join(str(part) for part in where)
    if item["type"] == "extra_forbidden":
        known = _fields_beside(where)
        elsewhere = [f"{other}.{where[-1]}" for other in _sections_with(str(where[-1]))]
        hint = f' (did you mean "{elsewhere[0]}"?)' if elsewhere else did_you_mean(str(where[-1]), known)
        return f'no setting "{name}"{hint}; there are: {", ".join(known)}'
    message = in_plain_words(item)
    if item["type"] == "tuple_type":
        given = item["input"]
        parts = [given] if isinstance(given, int | float) else re.findall(r"[^][,\s\"']+", str(given))
        message = f"a list is needed: --set '{name}={json.dumps(parts)}'"
        if isinstance(given, Mapping):
            message = f"a list of tables is needed: [[{name}]], with two brackets, for each"
    if item["type"] == "value_error":
        return f"{name}: {message}" if name else message  # of two settings, it names both
    return f'{name} is "{item["input"]}": {message}'


def in_plain_words(item: Mapping[str, Any]) -> str:
    """What a complaint of pydantic asks for."""
    or_auto = OR_AUTO if item["msg"].endswith(OR_AUTO) else ""
    message: str = PLAIN.get(item["type"], item["msg"].removesuffix(OR_AUTO).removeprefix("Value error, ")) + or_auto
    return message[:1].lower() + message[1:]


def _sections_with(field: str) -> list[str]:
    """The sections that have a field of this name."""
    return [name for name in Config.model_fields if field in section_type(name).model_fields]


def _fields_beside(where: Sequence[Any]) -> list[str]:
    section: Any = Config
    for part in where[:-1]:
        section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
    return list(section.model_fields)


def best_profile() -> str:
    """The first profile for the best device present."""
    return profile_for(available_devices()[0])


def profile_for(device: str) -> str:
    """The first profile for a device. Raises ConfigError if there is none."""
    for name, path in list_profiles().items():
        if profile_device(path) == device:
            return name
    raise ConfigError(f"no profile is for {device}, the device of this machine; give one with --profile FILE.toml")


def check_device(device: str) -> None:
    """Raise ConfigError, naming the profiles that would work, if the device is absent."""
    present = available_devices()
    if device not in present:
        working = [name for name, path in list_profiles().items() if profile_device(path) in present]
        raise ConfigError(
            f"device {device} is not present on this machine ({', '.join(present)}); "
            f"profiles that work here: {', '.join(working)}"
        )
