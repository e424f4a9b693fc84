"""`python -m runyoro_ssl.bench`: the training bench where only torch, transformers and accelerate are installed."""

from __future__ import annotations

import argparse
import sys
import warnings

from runyoro_ssl.bench.report import print_plain
from runyoro_ssl.bench.run import resolve_settings, run_training_bench, save
from runyoro_ssl.bench.training import PARTS
from runyoro_ssl.errors import RunyoroError


def main() -> int:
    """Parse, run, print; 1 for a mistake in an option."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(prog="python -m runyoro_ssl.bench", description=__doc__)
    parser.add_argument("--size", default="small")
    parser.add_argument("--device")
    parser.add_argument("--precision")
    parser.add_argument("--reference-precision")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--clip-seconds", type=float, default=15.0)
    parser.add_argument("--batch-seconds", type=float)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--json")
    options = vars(parser.parse_args())
    path, parts, without = options.pop("json"), options.pop("parts"), options.pop("no_reference")
    try:
        settings = resolve_settings(**options, parts=tuple(parts.split(",")), with_reference=not without)
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
