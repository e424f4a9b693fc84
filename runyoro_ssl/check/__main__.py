"""`python -m runyoro_ssl.check`: `invoke doctor --check` where there are only torch, transformers and accelerate."""

from __future__ import annotations

import sys
import time
import warnings

from runyoro_ssl.bench.plain import parse, print_table
from runyoro_ssl.check.options import CheckOptions, options_of_check, prepare_environment
from runyoro_ssl.errors import RunyoroError
from runyoro_ssl.redaction import printable


def main() -> int:
    """Parse, check, print; 1 for a mistake in an option, and where something is wrong."""
    options = CheckOptions(**parse("python -m runyoro_ssl.check", __doc__, options_of_check()))
    try:
        return _check(options)
    except RunyoroError as error:
        print(f"error {printable(str(error))}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; {options.json} has what was found", file=sys.stderr)  # noqa: T201
        return 130


def _check(options: CheckOptions) -> int:
    warnings.simplefilter("ignore")
    prepare_environment()
    from runyoro_ssl.check.report import COLUMNS, Record, cells, is_wrong, summary
    from runyoro_ssl.check.run import run_checks
    from runyoro_ssl.check.settings import resolve_check

    settings = resolve_check(options)
    record, rows, started = Record(settings), [], time.monotonic()
    for row in run_checks(settings):
        record.add(row)
        rows.append(row)
        print(f"{time.monotonic() - started:4.0f} s  {row.verdict:8}  {row.check}: {row.what}: {row.value}", flush=True)  # noqa: T201
    print_table(COLUMNS, list(map(cells, rows)))
    print(f"{summary(rows)}; {settings.json} has it all, for sending")  # noqa: T201
    record.close()
    return int(is_wrong(rows))


if __name__ == "__main__":
    sys.exit(main())
