"""Starts of `train` under limits on memory: each trains, or says in one line that not one clip fits. None runs out.

    python tests/starts.py DATASET MODEL [MODEL ...] --starts 50

`ulimit -v` of each start is drawn; what is decided in it is printed. Status 1 if a start ended in any other way.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.forked import FORKED

GIB = 1 << 30
REFUSED = re.compile(r"memory: training on a single clip of .* takes .* is free on cpu; ")
OVER = re.compile(r"out_of_memory|out of memory|bad_alloc|MemoryError|Traceback|memory_grows")
SMALLER = "micro_batch_too_large"
DECIDED = re.compile(r"(batch_seconds|gradient_checkpointing|precision) +│ (\S+?):")


@dataclass(frozen=True)
class Start:
    """How a start ended: `trained`, `refused`, or `failed`; what it said."""

    limit: int
    outcome: str
    said: str

    @property
    def decided(self) -> str:
        """What it decided, in words."""
        found = ", ".join(f"{name} {value}" for name, value in DECIDED.findall(self.said))
        return found + (", after a smaller try" if SMALLER in self.said else "")


def start(arguments: Sequence[str], limit: int) -> Start:
    """Train in a process of its own that may have so many bytes of addresses, those of its libraries among them."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = FORKED.Process(target=_train, args=([*arguments, "--output-dir", f"{folder}/run"], str(log), limit))
        process.start()
        process.join()
        said = log.read_text() if log.exists() else ""
    clean = not OVER.search(said)
    if process.exitcode == 0 and clean:
        return Start(limit, "trained", said)
    return Start(limit, "refused" if process.exitcode == 1 and clean and REFUSED.search(said) else "failed", said)


def _train(arguments: list[str], log: str, limit: int) -> None:
    from runyoro_ssl.__main__ import main

    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ["COLUMNS"] = "250"
    sys.argv = ["runyoro-ssl", "train", *arguments]
    main()


def short(dataset: Path, model: Path, *settings: str) -> list[str]:
    """The options of a run of one step."""
    options = ["--processed-dataset-path", str(dataset), "--model-name-or-path", str(model), "--max-steps", "1"]
    settings = ("hardware.update_seconds=30", 'plugins.loggers=["jsonl"]', *settings)
    return ["--profile", "cpu-smoke", *options, *(word for setting in settings for word in ("--set", setting))]


def main() -> int:
    """Draw limits, start, and count how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--gib", type=float, nargs=2, default=(2.4, 6.0), help="limits, from and to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="a setting of every run")
    given = parser.parse_args()
    draw, counts = random.Random(given.seed), Counter[str]()  # noqa: S311 - not for cryptography
    for number in range(given.starts):
        model, limit = given.models[number % len(given.models)], round(draw.uniform(*given.gib) * GIB)
        began = time.monotonic()
        found = start(short(given.dataset, model, *given.set), limit)
        counts[found.outcome] += 1
        seconds = time.monotonic() - began
        words = (f"{number + 1:3d}", model.name, f"{limit / GIB:.2f} GiB", found.outcome, found.decided)
        print(*words, f"{seconds:.0f} s", sep="  ")  # noqa: T201
        if found.outcome == "failed":
            print(found.said[-2000:])  # noqa: T201
    print(dict(counts))  # noqa: T201
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
