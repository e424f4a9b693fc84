"""`accelerate launch -m runyoro_ssl.train …`: `invoke train` for several processes, with the same options."""

from __future__ import annotations

import argparse

from runyoro_ssl.cli import command, run_train
from runyoro_ssl.resolve import SECTIONS, section_type


@command
def main() -> None:
    """Parse the options of `invoke train`; any field of its sections is one."""
    parser = argparse.ArgumentParser(prog="runyoro_ssl.train", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--profile")
    parser.add_argument("--config")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    for name in ("fp16", "bf16"):
        parser.add_argument(f"--{name}", nargs="?", const=True)
    fields: dict[str, None] = {}
    for section in SECTIONS["train"]:
        fields |= dict.fromkeys(section_type(section).model_fields)
    for name in fields:
        parser.add_argument(f"--{name.replace('_', '-')}", nargs="?", const=True)
    flags = vars(parser.parse_args())
    profile, config_file, settings = flags.pop("profile"), flags.pop("config"), flags.pop("set")
    run_train(flags, profile=profile, config_file=config_file, settings=settings)


if __name__ == "__main__":
    main()
