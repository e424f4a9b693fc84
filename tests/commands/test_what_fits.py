"""What fits where: the page of the docs is what the code says, and the code says what the prediction says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from conftest import ROOT, transformers
from runyoro_ssl import doctor
from runyoro_ssl.bench.fits import CLIP_SEC, CUDA_CONTEXT, DROPOUT, WAYS, mac_budget, what_fits, work_per_second
from runyoro_ssl.bench.sizes import SIZES
from runyoro_ssl.commands.what_fits import WhatFits
from runyoro_ssl.model.at_hand import CUDA_MARGIN, MPS_SHARE
from runyoro_ssl.model.memory import predict_memory
from runyoro_ssl.page.amounts import GIB

RunTask = Callable[[str], tuple[int, str, str]]
PAGE = ROOT / "docs" / "what-fits.md"


def test_page_of_the_docs_is_what_is_printed(pytestconfig: pytest.Config) -> None:
    """`--rewrite-golden` writes it anew. Some cells against the prediction: one clip more would not fit."""
    found = doctor(what_fits=True)
    page = found.page()
    if pytestconfig.getoption("--rewrite-golden"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page
    gpus = {(row[0], row[1]): row[2:] for row in found.tables[1].rows}
    for way in WAYS[:4]:  # of the last the most that was ever measured fits
        config = transformers.Wav2Vec2Config(**SIZES["xls-r-1b"], **DROPOUT)
        cell = gpus["XLS-R-1B", way.words][3]
        fits, more = (
            _peak(config, way, int(cell) + extra) <= (24 * GIB - CUDA_CONTEXT - CUDA_MARGIN) for extra in (0, CLIP_SEC)
        )
        assert (fits, more) == (True, False), way.words


def _peak(config: object, way: object, seconds: float) -> int:
    return predict_memory(config, replace(way.batches("cuda"), batch_seconds=seconds)).peak  # type: ignore[attr-defined]


def test_budget_of_a_mac() -> None:
    """Of what macOS gives the GPU so much as a run takes; less, where a checkpoint would not find room beside it."""
    assert mac_budget(16 * GIB, saved=0) == pytest.approx(MPS_SHARE * 16 * GIB * 2 / 3)
    assert mac_budget(64 * GIB, saved=0) == pytest.approx(MPS_SHARE * 48 * GIB)
    assert mac_budget(16 * GIB, saved=8 * GIB) < 5 * GIB


def test_work_of_each_way() -> None:
    """119 GFLOP an audio second with all weights; checkpointing computes layers again; adapters leave out two parts."""
    config = transformers.Wav2Vec2Config(**SIZES["xls-r-300m"])
    whole, again, _, adapters, both = (work_per_second(config, way) / 1e9 for way in WAYS)
    assert whole == pytest.approx(119, abs=1)
    assert 1.2 * whole < again < 1.34 * whole
    assert adapters < 0.7 * whole
    assert adapters < both < again


def test_tables_on_the_terminal(run_task: RunTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, with every machine; nothing is fetched, and no model is loaded."""
    tables = what_fits()
    monkeypatch.setattr("runyoro_ssl.bench.fits.what_fits", lambda: tables)
    status, out, err = run_task("doctor --what-fits")
    assert status == 0, err
    words = " ".join(out.split())
    for said in ("XLS-R-300M", "XLS-R-1B", "XLS-R-2B", "128 GB", "80 GB", "adapters", "moments in 8 bits", "H200"):
        assert said in words
    assert all(title in out for title in (table.title.split(":")[0] for table in WhatFits(tables).tables))


@pytest.mark.parametrize(
    "options",
    ["--profile cuda", "--model-name-or-path facebook/wav2vec2-base", "--check", "--adapters lora", "--fetch"],
)
def test_other_options_say_nothing_to_it(run_task: RunTask, options: str) -> None:
    """One line, status 1, before anything is computed."""
    status, out, err = run_task(f"doctor --what-fits {options}")
    assert (status, out) == (1, "")
    assert f"{options.split(maxsplit=1)[0]} says nothing to --what-fits" in " ".join(err.split())
