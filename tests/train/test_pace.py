"""How long a run takes, from its steps so far."""

from __future__ import annotations

import pytest

from runyoro_ssl.train.pace import Pace
from runyoro_ssl.train.stopping import clock


def take_steps(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> Pace:
    """A pace after steps that took so long each."""
    pace, now = Pace(), [0.0]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    for each in seconds:
        pace.begin_step()
        now[0] += each
        pace.end_step()
    return pace


def test_compilers_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the first step, and each of a new shape, waits for a compiler: the usual step does not."""
    pace = take_steps(monkeypatch, [23.8, 0.5, 0.4, 4.0, 0.6, 0.5])
    assert pace.num_measured == 5
    assert pace.usual_step == pytest.approx(0.5)
    assert pace.measured_seconds == pytest.approx(6.0)
    assert not pace.is_settled


def test_the_first_step_is_better_than_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there is another it is all that is known."""
    assert take_steps(monkeypatch, [240.0]).usual_step == pytest.approx(240.0)
    assert take_steps(monkeypatch, [1.0, 61.0]).is_settled
