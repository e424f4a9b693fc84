"""`torchrun -m runyoro_ssl.train …`: `invoke train` for several processes, with the same options."""

from __future__ import annotations

import argparse
from typing import NoReturn

from runyoro_ssl.commands.ending import command
from runyoro_ssl.commands.options import run_train
from runyoro_ssl.errors import ConfigError
from runyoro_ssl.resolve import SECTIONS, section_type


class _Parser(argparse.ArgumentParser):
    """Mistakes end as those of `invoke train` do: one line, status 1."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; the options are those of `invoke train --help`")


@command
def main() -> None:
    """Parse the options of `invoke train`; any field of its sections is one."""
    parser = _Parser(prog="runyoro_ssl.train", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--profile")
    parser.add_argument("--config")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--no-plugins", action="store_true")
    for name in ("fp16", "bf16"):
        parser.add_argument(f"--{name}", nargs="?", const=True)
    fields = {
        name: field for section in SECTIONS["train"] for name, field in section_type(section).model_fields.items()
    }
    for name, field in fields.items():
        option = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            parser.add_argument(option, nargs="?", const=True)
        else:
            parser.add_argument(option)
    flags = vars(parser.parse_args())
    profile, config_file, settings = flags.pop("profile"), flags.pop("config"), flags.pop("set")
    run_train(flags, profile=profile, config_file=config_file, settings=settings)


if __name__ == "__main__":
    main()
