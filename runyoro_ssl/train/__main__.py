"""`python -m runyoro_ssl.train …`: `python -m runyoro_ssl train …`, as it was called before."""

from __future__ import annotations

import sys

from runyoro_ssl.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
