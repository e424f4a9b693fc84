"""How a task closes: what it has made, and the next command, to copy."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runyoro_ssl.logs import print_lines
from runyoro_ssl.redaction import redact

MODULE = "python -m runyoro_ssl"
LAUNCHED = "torchrun … -m runyoro_ssl"
"""How a process that a launcher started was called: with options that it does not see."""


def program(environment: Mapping[str, str] = os.environ) -> str:
    """How this program was called: `invoke`, `runyoro-ssl`, or as a module."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return LAUNCHED
    called = Path(sys.argv[0])
    return MODULE if called.suffix == ".py" else called.name


def command(task: str, *words_after: object, **flags: Any) -> str:
    """A command line of this program, to copy. A flag that is None or false is left out; secrets are."""
    words = [task, *map(str, words_after)]
    for name, value in flags.items():
        if value in (None, False, (), []):
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [f"--{name.replace('_', '-')}", *([] if one is True else [str(redact(str(one)))])]
    return f"{program()} {shlex.join(words)}"


def close(made: Sequence[tuple[str, object]] = (), then: Sequence[tuple[str, str]] = ()) -> None:
    """Print what was made, by what it is, and the commands that may follow, by what they are for."""
    width = max((len(what) for what, _ in [*made, *then]), default=0)
    print_lines([f"{what.ljust(width)}  {value}" for what, value in [*made, *then]])
