"""`python -m runyoro_ssl.bench`: the training bench where only torch, transformers and accelerate are installed."""

from __future__ import annotations

import argparse
import sys
import warnings

from runyoro_ssl.bench.options import BenchOptions, options_of_bench
from runyoro_ssl.bench.report import print_plain
from runyoro_ssl.bench.run import resolve_settings, run_training_bench, save
from runyoro_ssl.errors import RunyoroError


def main() -> int:
    """Parse, run, print; 1 for a mistake in an option."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(prog="python -m runyoro_ssl.bench", description=__doc__, allow_abbrev=False)
    for option in options_of_bench(everywhere=True):
        if option.kind == "switch":
            parser.add_argument(option.flag, action="store_true", help=option.explained)
        else:
            parser.add_argument(option.flag, help=option.explained, metavar=option.usage.partition("=")[2])
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    options = BenchOptions(**given)
    try:
        settings = resolve_settings(options)
    except RunyoroError as error:
        print(f"error {error}", file=sys.stderr)  # noqa: T201
        return 1
    rows = []
    for row in run_training_bench(settings):
        rows.append(row)
        print_plain([row])
    print_plain(rows)
    save(options.json, settings.device, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
