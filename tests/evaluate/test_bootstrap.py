"""Intervals: they hold what is true as often as they say, and both sides are drawn together."""

from __future__ import annotations

import numpy as np
import pytest

from runyoro_ssl.evaluate.compared.measured import MeasureKind, measured
from runyoro_ssl.evaluate.intervals import PerGroup, paired_bootstrap


def _two_models(generator: np.random.Generator, num_groups: int, gain: float) -> PerGroup:
    """Losses that differ much from group to group, and little between models."""
    sizes = generator.integers(50, 150, num_groups).astype(np.float64)
    hard = generator.normal(4, 1, num_groups)
    losses = np.stack([hard, hard - gain + generator.normal(0, 0.05, num_groups)])
    return PerGroup(losses * sizes, np.stack([sizes, sizes]))


@pytest.mark.parametrize("num_groups", [8, 20])
def test_an_interval_holds_the_truth_as_often_as_it_says(num_groups: int) -> None:
    """95 of 100 times, of few groups, too: plain percentile intervals of 8 groups hold it 88 times."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        found = paired_bootstrap(
            _two_models(generator, num_groups, 0.02).statistic, num_groups, generator, replicates=400
        )
        held += found.difference_low <= -0.02 <= found.difference_high
    assert 0.92 <= held / 400 <= 0.985


def test_groups_are_drawn_for_both_models_together() -> None:
    """So what is hard for both does not widen the interval of their difference."""
    found = paired_bootstrap(_two_models(np.random.default_rng(1), 30, 0.1).statistic, 30, np.random.default_rng(2))
    assert found.high[0] - found.low[0] > 0.5
    assert found.difference_high - found.difference_low < 0.1
    assert found.difference_low < found.difference < found.difference_high < 0


def test_a_model_beside_itself_differs_by_nothing() -> None:
    """Exactly."""
    one = _two_models(np.random.default_rng(1), 10, 0.0)
    same = PerGroup(np.stack([one.numerators[0]] * 2), one.denominators)
    found = paired_bootstrap(same.statistic, 10, np.random.default_rng(0))
    assert (found.difference_low, found.difference, found.difference_high) == (0, 0, 0)


def test_ratios_are_of_sums() -> None:
    """Not means of ratios: a long recording counts as much as it is long."""
    ratio = PerGroup(np.array([[1.0, 30.0]]), np.array([[1.0, 10.0]]))
    assert ratio.values == pytest.approx([31 / 11])
    assert ratio.statistic(np.array([[2.0, 0.0], [0.0, 0.0]]))[0] == pytest.approx([1.0])
    assert np.isnan(ratio.statistic(np.array([[0.0, 0.0]]))).all()


def test_any_statistic_of_weights_will_do() -> None:
    """Such as one that is no ratio."""
    values = np.array([1.0, 2.0, 3.0])

    def largest(weights: np.ndarray) -> np.ndarray:
        return np.stack([np.where(weights > 0, values, -np.inf).max(axis=1)] * 2, axis=1)

    found = paired_bootstrap(largest, 3, np.random.default_rng(0))
    assert found.values.tolist() == [3.0, 3.0]
    assert 1.0 <= found.low[0] < 3.0


def test_groups_without_data_do_not_count() -> None:
    """Two recordings with labels among twenty are two: so few have no interval."""
    some = PerGroup(np.zeros((2, 20)), np.zeros((2, 20)))
    some.denominators[:, :2], some.numerators[:, :2] = 10, [[4, 5], [3, 4]]
    kind = MeasureKind("phones.probe", "probe", "%", "higher", "nobody")
    found = measured(kind, ("base", "adapted"), some, 20)
    assert found.difference == pytest.approx(-0.1)
    assert found.difference_interval is None
    assert found.intervals == {}
    assert found.num_groups == 0
    some.denominators[:, :8], some.numerators[:, :8] = 10, 4
    found = measured(kind, ("base", "adapted"), some, 20)
    assert (found.num_groups, set(found.intervals)) == (8, {"base", "adapted"})


def test_what_drawing_does_on_average_is_taken_back() -> None:
    """The entropy of groups that come twice is lower; its interval lies about the entropy of all."""
    counts = np.eye(12)

    def entropy(weights: np.ndarray) -> np.ndarray:
        share = weights @ counts / weights.sum(1, keepdims=True)
        return np.stack([-np.where(share > 0, share * np.log(np.maximum(share, 1e-9)), 0).sum(1)] * 2, axis=1)

    found = paired_bootstrap(entropy, 12, np.random.default_rng(0))
    assert found.low[0] < found.values[0] < found.high[0]


def test_one_group_has_no_interval() -> None:
    """It says so."""
    with pytest.raises(ValueError, match="1 groups"):
        paired_bootstrap(_two_models(np.random.default_rng(0), 1, 0.0).statistic, 1, np.random.default_rng(0))
