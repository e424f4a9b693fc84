"""`python -m runyoro_ssl.train …`, the former name of `python -m runyoro_ssl train …`; any setting is an option."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from runyoro_ssl.__main__ import main
from runyoro_ssl.commands.given import find_setting
from runyoro_ssl.commands.options import options_of
from runyoro_ssl.errors import ConfigError


def as_task(words: Sequence[str]) -> list[str]:
    """The command line of the task: `--adam-beta2 0.95` becomes `--set train.adam_beta2=0.95`."""
    return ["train", *_translated(iter(words))]


def _translated(words: Iterator[str]) -> Iterator[str]:
    flags = {option.flag for option in options_of("train")}
    for word in words:
        flag, equals, value = word.partition("=")
        try:
            known = flag.replace("_", "-") in flags or not flag.startswith("--")
            section, name = ("", "") if known else find_setting("train", flag[2:].replace("-", "_"))
        except ConfigError:
            section = ""
        if not section:
            yield word
            continue
        yield "--set"
        yield f"{section}.{name}={value if equals else next(words, '')}"


if __name__ == "__main__":
    sys.argv[1:] = as_task(sys.argv[1:])
    main()
