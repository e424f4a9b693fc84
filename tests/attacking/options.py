"""Options and settings with values that nobody means."""

from __future__ import annotations

import math

from attacking.absurd import NAMES
from attacking.part import Draw, Part
from runyoro_ssl.commands.options import options_of
from runyoro_ssl.config import Config

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
KEPT = {"run", "processed_dataset_path", "fetch", "check", "what_fits"}
"""Would only ask for another place, or take minutes by design."""


def draw(chance: Draw, task: str) -> Part | None:
    """An option of the task, or a setting of any section, and its value."""
    value = chance.choice((*NUMBERS, *TEXTS, *DURATIONS, *NAMES, str(math.pi)))
    if task in ("train", "resume", "prepare", "evaluate") and chance.random() < 0.5:
        section = chance.choice(sorted(Config.model_fields))
        fields = Config.model_fields[section].annotation
        name = chance.choice(sorted(getattr(fields, "model_fields", {"profile": None})))
        words = ["--set", f"{section}.{name}={value}"]
    else:
        options = [option for option in options_of("train" if task == "resume" else task) if option.name not in KEPT]
        option = chance.choice(options)
        words = [option.flag] if option.kind == "switch" and chance.random() < 0.7 else [f"{option.flag}={value}"]
    return Part("options", " ".join(words)[:90], words=words, keeps=False)
