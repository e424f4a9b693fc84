"""`python -m runyoro_ssl.bench`: the training bench where only torch, transformers and accelerate are installed."""

from __future__ import annotations

import sys
import warnings

from runyoro_ssl.bench.options import BenchOptions, options_of_bench
from runyoro_ssl.bench.plain import parse
from runyoro_ssl.bench.report import print_plain
from runyoro_ssl.bench.run import resolve_settings, run_training_bench, save
from runyoro_ssl.errors import RunyoroError
from runyoro_ssl.redaction import printable


def main() -> int:
    """Parse, run, print; 1 for a mistake in an option."""
    warnings.simplefilter("ignore")
    options = BenchOptions(**parse("python -m runyoro_ssl.bench", __doc__, options_of_bench(everywhere=True)))
    try:
        settings = resolve_settings(options)
    except RunyoroError as error:
        print(f"error {printable(str(error))}", file=sys.stderr)  # noqa: T201
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
