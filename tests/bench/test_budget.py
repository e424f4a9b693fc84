"""The budget of docs/cuda.md: what a step asks of a GPU, held without one."""

from __future__ import annotations

import re

import pytest

from conftest import ROOT
from runyoro_ssl.model import precision
from support.step_trace import StepTrace, trace_step

ROW = re.compile(r"^\| ([\w ]+) \| (\d+) \| ([\d.]+) \|", re.MULTILINE)
PAGE = ROOT / "docs/cuda.md"
CAST_TWICE_MORE = 24 * 4
"""In XLS-R-300M, where attention's input is cast for queries, keys and values each: forward and backward."""


@pytest.fixture(scope="module")
def trace() -> StepTrace:
    """A step of XLS-R-300M on 480 s."""
    return trace_step("xls-r-300m", 480.0)


def test_step_keeps_to_its_budget(trace: StepTrace) -> None:
    """Of each kind, as many operators as the page says, and as many bytes: other releases of torch differ by little."""
    written = {kind: (int(operators), float(gigabytes)) for kind, operators, gigabytes in ROW.findall(PAGE.read_text())}
    assert written.keys() == trace.operators.keys()
    for kind, (operators, gigabytes) in written.items():
        assert trace.operators[kind] == pytest.approx(operators, rel=0.02)
        assert trace.gigabytes[kind] == pytest.approx(gigabytes, rel=0.02, abs=0.1)


def test_another_cast_is_seen(trace: StepTrace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention's input cast three times, as transformers has it: more casts, and a tenth more bytes."""
    monkeypatch.setattr(precision, "_cast", lambda _module, inputs: inputs)
    as_it_was = trace_step("xls-r-300m", 480.0)
    assert as_it_was.operators["casts"] == trace.operators["casts"] + CAST_TWICE_MORE
    more = sum(as_it_was.gigabytes.values()) / sum(trace.gigabytes.values())
    assert more == pytest.approx(1.085, abs=0.01)
