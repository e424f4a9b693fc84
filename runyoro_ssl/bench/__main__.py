"""`python -m runyoro_ssl.bench`: the training bench where only torch, transformers and accelerate are installed."""

from __future__ import annotations

import argparse
import sys
import warnings

from runyoro_ssl.bench.report import print_plain
from runyoro_ssl.bench.run import resolve_settings, run_training_bench, save
from runyoro_ssl.errors import RunyoroError


def main() -> int:
    """Parse, run, print; 1 for a mistake in an option."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(prog="python -m runyoro_ssl.bench", description=__doc__)
    for option in ("size", "device", "precision", "reference-precision", "steps", "parts", "clip-seconds"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--batch-seconds")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--without-reference", action="store_true")
    parser.add_argument("--json")
    options = vars(parser.parse_args())
    path = options.pop("json")
    try:
        settings = resolve_settings(**options)
    except RunyoroError as error:
        print(f"error {error}", file=sys.stderr)  # noqa: T201
        return 1
    rows = []
    for row in run_training_bench(settings):
        rows.append(row)
        print_plain([row])
    print_plain(rows)
    save(path, settings.device, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
