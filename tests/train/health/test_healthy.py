"""Healthy runs are left in peace: a part of `python tests/healthy.py`, on synthetic speech."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from healthy import Trial, try_run


@pytest.mark.long
def test_healthy_runs_are_not_sent_back(dataset: Path, tmp_path: Path) -> None:
    """From random weights at a high rate, and on from what that gave; no checkpoint is called unhealthy."""
    AcceleratorState._reset_state()
    first = try_run(Trial(1, 5e-4, 0, 6.0), dataset, tmp_path / "first", steps=30)
    second = try_run(Trial(1, 5e-4, 1, 6.0, base=tmp_path / "first" / "run"), dataset, tmp_path / "second", steps=30)
    for outcome in (first, second):
        assert not outcome.is_sent_back, outcome.line()
        assert (outcome.checkpoints, outcome.unhealthy) == (10, 0), outcome.line()
    assert second.last_gap < first.first_gap
