"""Options and settings with values that nobody means."""

from __future__ import annotations

import json
import math

from attacking.absurd import NAMES
from attacking.part import MIX, TRAINING, Draw, Part, command_of
from runyoro_ssl.commands.options import options_of
from runyoro_ssl.config import Config
from runyoro_ssl.config.source import SourceConfig

NUMBERS: tuple[str, ...] = (
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1",
    "0",
    "-0.0",
    str(10**30),
    "9" * 5000,
    "1e-320",
    "0x10",
    "1_000",
)
NUMBERS += ("\u0663", "½")
TEXTS: tuple[str, ...] = ("", " ", "[]", "{}", "null", "true", "a,b", "[1, 2]", '{"a": 1}', "auto", "none", "\x1b[31m")
TEXTS += ("\udcff", "/dev/null")
DURATIONS = ("5h30", "-5m", "1e9h", "0s", "5h5h", "∞")
PATHS = tuple(map(json.dumps, ("dataset", "replay", "others", "others/link", "nowhere", "a\0b", "a\nb", "~", "")))
OF_SOURCES = (*PATHS, '"target"', '"donor"', "true", "3", "12", "0.5", "0.999999999", "1e-320", "{}", "[[1]]")
CONFIGURED = (*TRAINING, "prepare", "evaluate", f"evaluate{MIX}", "donors", "convert", "hear")
KEPT = {"run", "processed_dataset_path", "fetch", "check", "what_fits"}
"""Would only ask for another place, or take minutes by design."""


def draw(chance: Draw, task: str) -> Part | None:
    """An option of the task, or a setting of any section, and its value."""
    value = chance.choice((*NUMBERS, *TEXTS, *DURATIONS, *NAMES, str(math.pi)))
    if task in TRAINING and task.endswith(MIX) and chance.random() < 0.4:
        name = chance.choice(sorted(SourceConfig.model_fields))
        at, value = chance.choice(("dataset", "pool")), chance.choice((*NUMBERS, *TEXTS, *OF_SOURCES, *OF_SOURCES))
        sources = {one: {"path": json.dumps(one)} for one in ("dataset", "pool")}
        sources[at][name] = value
        said = ", ".join(f"{{{', '.join(f'{k} = {v}' for k, v in one.items())}}}" for one in sources.values())
        words = ["--set", f"train.sources=[{said}]"]
    elif task in CONFIGURED and chance.random() < 0.5:
        section = chance.choice(sorted(Config.model_fields))
        fields = Config.model_fields[section].annotation
        name = chance.choice(sorted(getattr(fields, "model_fields", {"profile": None})))
        words = ["--set", f"{section}.{name}={value}"]
    else:
        options = [option for option in options_of(command_of(task)) if option.name not in KEPT]
        option = chance.choice(options)
        words = [option.flag] if option.kind == "switch" and chance.random() < 0.7 else [f"{option.flag}={value}"]
    return Part("options", " ".join(words)[:90], words=words, keeps=False)
