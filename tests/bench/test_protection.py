"""What protection costs: of which steps it is made."""

from __future__ import annotations

import pytest

from runyoro_ssl.bench.protection import StepClock


def test_checkpoints_and_slow_moments_are_no_steps() -> None:
    """A checkpoint every ten steps is timed by itself; a minute for which the machine was taken away is not seen."""
    clock = StepClock()
    clock.times = {1: 0.0}
    for step in range(2, 41):
        clock.times[step] = clock.times[step - 1] + {11: 2.5, 21: 2.5, 31: 2.5, 25: 60.0}.get(step, 0.5)
    assert clock.took(10) == pytest.approx((0.5, 2.0))
    assert clock.took(40) == pytest.approx((0.5, 0.0))
