"""`doctor --what-fits`: which model fits on which machine, as tables on a terminal and as a page of the docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runyoro_ssl.errors import ConfigError
from runyoro_ssl.logs import print_table

if TYPE_CHECKING:
    from runyoro_ssl.bench.fits import FitsTable

PAGE = """# What fits where

Which XLS-R fits on which machine, and how fast it may be, by the way it is trained. Written by
`invoke doctor --what-fits`; a test holds this page to what that prints. For your own model, settings and machine:
`invoke doctor --model-name-or-path M --profile P`.

Memory is predicted from the shapes of model and micro-batch. Against real runs on a CPU, fp32 and bf16, in every way
that is named here, the prediction is within 4 %; on an NVIDIA H200, where all weights learn, within 2 % (it was
measured before attention's input was cast once, and is compared less what that saves). **Nothing has
been measured on a Mac, nor adapters or 8 bits on a GPU.** Assumed are clips of 15 s, dropout as in XLS-R's
config.json, bf16 on a GPU and fp32 on a Mac. Of a GPU 2 GB are left for what torch does not count. Of a Mac the GPU
gets two thirds of up to 32 GB and three quarters of more, as macOS recommends; a run takes 70 % of that, as what MPS
keeps for its programs is not predicted, and leaves 3 GB for the system. On a Mac, and on the host of a GPU, a
checkpoint waits in memory while it is written. A run decides by the same numbers.

| way | given as | what it costs |
|---|---|---|
{ways}

"no": not one clip of 15 s fits. "960+": the most that was ever measured, and more. 645 s on a Mac: the most that M1 and
M2 compute rightly ([mps.md](mps.md)).
{tables}
"Speed" is beside the same machine with all weights and no checkpointing, by operations alone. On the H200, XLS-R-300M
with all weights is measured in micro-batches of 480 s, XLS-R-1B in such of 120 s; the other numbers follow from these
by operations. What a Mac reaches at most follows from the rate of products on an M4 Max, 7.8 to 12 TFLOP/s in fp32, as
others have measured it: whole steps are slower, and a smaller chip has a fraction of that.
"""
COSTS = {
    "all weights": "nothing",
    "all weights, checkpointing": "each layer is computed twice",
    "the same, moments in 8 bits": "rounded moments; `pip install -e '.[adam-8bit]'`; not on a Mac",
    "adapters": "about 2 % of the weights learn; `pip install -e '.[adapters]'`; the final model is a plain one",
    "adapters, checkpointing": "both",
}


@dataclass(frozen=True)
class WhatFits:
    """The tables of what fits where."""

    tables: list[FitsTable]

    def page(self) -> str:
        """The page of the docs, in Markdown."""
        from runyoro_ssl.bench.fits import WAYS

        ways = "\n".join(f"| {way.words} | {_code(way.flags)} | {COSTS[way.words]} |" for way in WAYS)
        return PAGE.format(ways=ways, tables="".join(map(_markdown, self.tables)))


def find_what_fits(given: Mapping[str, Any]) -> WhatFits:
    """The tables. Raises ConfigError for any other option: they are of XLS-R's models and of machines elsewhere."""
    for name, value in given.items():
        if name != "what_fits" and value not in (None, (), [], False):
            raise ConfigError(
                f"--{name.replace('_', '-')} says nothing to --what-fits, which is about XLS-R's models on machines "
                "elsewhere; leave one of the two out"
            )
    from runyoro_ssl.bench.fits import what_fits

    return WhatFits(what_fits())


def show_what_fits(found: WhatFits) -> None:
    """Print the tables."""
    for table in found.tables:
        print_table(table.title, table.columns, table.rows)


def _code(flags: str) -> str:
    return f"`{flags}`" if flags else "the default"


def _markdown(table: FitsTable) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return f"\n## {table.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
