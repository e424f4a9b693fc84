"""How like two stretches of speech are: held to scipy's divergence, and the same whatever their length."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from runyoro_ssl.donors.measure import NUM_PARTS, Near, Yardsticks, near
from runyoro_ssl.donors.similarity import MIN_PAIRS, TargetPairs, collapse, pairs, shared

NUM_UNITS = 20
CELLS = NUM_UNITS**2


def chain(seed: int) -> np.ndarray:
    """How likely each unit follows another, for a language of its own: (K, K), rows sum to 1."""
    odds = np.random.default_rng(seed).dirichlet(np.full(NUM_UNITS, 0.2), NUM_UNITS)
    np.fill_diagonal(odds, 0.0)
    return np.asarray(odds / odds.sum(1, keepdims=True))


def speak(odds: np.ndarray, size: int, seed: int) -> np.ndarray:
    """So many units of a language, one after the other, from amid it."""
    generator = np.random.default_rng([7, seed])
    units = [0]
    for draw in generator.random(size + 20):
        units.append(min(int(np.searchsorted(np.cumsum(odds[units[-1]]), draw)), NUM_UNITS - 1))
    return np.array(units[20:])


def table(units: np.ndarray) -> np.ndarray:
    """How often each pair comes."""
    return np.bincount(pairs(collapse(units), NUM_UNITS), minlength=CELLS)


def test_it_is_the_jensen_shannon_divergence() -> None:
    """Of scipy, over all cells, whatever is 0 on either side."""
    generator = np.random.default_rng(0)
    for empty in (0.0, 0.5, 0.9):
        here = generator.random(CELLS) * (generator.random(CELLS) >= empty)
        counts = generator.integers(1, 9, CELLS) * (generator.random(CELLS) >= empty)
        cells = np.flatnonzero(counts)
        expected = 1 - jensenshannon(here / here.sum(), counts / counts.sum(), base=2) ** 2
        assert shared(here / here.sum(), cells, counts[cells]) == pytest.approx(expected)


def test_pairs_are_of_units_without_repeats() -> None:
    """A long sound is one unit."""
    labels = np.array([3, 3, 3, 1, 1, 3, 2, 2])
    assert collapse(labels).tolist() == [3, 1, 3, 2]
    assert pairs(collapse(labels), 10).tolist() == [31, 13, 32]
    assert pairs(collapse(labels).astype(np.uint16), 200).tolist() == [601, 203, 602]
    assert collapse(labels[:0]).tolist() == []


def test_short_clips_are_as_near_as_long_ones() -> None:
    """Of the same language, of any length: near 1. Plainly, clips of 30 pairs look far, and long ones are preferred.

    Pairs in a row are no independent draws: hence a little less.
    """
    odds = chain(0)
    target = TargetPairs(table(speak(odds, 20_000, 0)), seed=0)
    plain, relative = {}, {}
    for size in (30, 300, 3000):
        clips = [table(speak(odds, size, 1 + clip)) for clip in range(20)]
        relative[size] = np.mean([target.similarity_of(clip) for clip in clips])
        distribution = target.counts / target.counts.sum()
        plain[size] = np.mean(
            [shared(distribution, np.flatnonzero(clip), clip[np.flatnonzero(clip)]) for clip in clips]
        )
    assert all(0.92 < value < 1.05 for value in relative.values()), relative
    assert plain[3000] - plain[30] > 0.25, plain


def test_of_less_than_a_second_nothing_is_told() -> None:
    """No number, rather than a wild one."""
    target = TargetPairs(table(speak(chain(0), 2000, 0)), seed=0)
    assert np.isnan(target.similarity_of(table(speak(chain(0), MIN_PAIRS - 1, 1))))
    assert np.isfinite(target.similarity_of(table(speak(chain(0), MIN_PAIRS, 1))))


@pytest.mark.parametrize("seed", range(3))
def test_languages_are_ordered_by_how_much_they_are_alike(seed: int) -> None:
    """The target, mixtures of it and another, the other alone."""
    odds, other = chain(10 * seed), chain(10 * seed + 1)
    target = TargetPairs(table(speak(odds, 10_000, seed)), seed)
    languages = [odds, 0.7 * odds + 0.3 * other, 0.3 * odds + 0.7 * other, other]
    found = []
    for language in languages:
        parts = np.array([table(speak(language, 500, 100 + part)) for part in range(NUM_PARTS)])
        one = near(target, parts)
        found.append(one.similarity)
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.95
    assert found[-1] < 0.4


def test_intervals_hold_what_more_speakers_would_give() -> None:
    """Nearly as often as they say, of ten speakers, each of whom speaks in a way of his own."""
    generator = np.random.default_rng(0)
    odds, other = chain(0), chain(1)
    target = TargetPairs(table(speak(odds, 20_000, 0)), seed=0)
    ways = np.stack([table(speak(one, 20_000, 5)) for one in (odds, other)]) / 20_000

    def speakers(count: int) -> np.ndarray:
        shares = generator.beta(4, 2, count)[:, None] * [1, -1] + [0, 1]
        return np.array([generator.multinomial(2000, way / way.sum()) for way in shares @ ways])

    truth = target.similarity_of(speakers(2000).sum(0))
    held = 0
    for _ in range(100):
        found = near(target, speakers(NUM_PARTS))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 85 <= held <= 99, held


def test_of_two_voices_there_is_no_interval() -> None:
    """What two speakers have in common says nothing of others."""
    target = TargetPairs(table(speak(chain(0), 2000, 0)), seed=0)
    parts = np.zeros((NUM_PARTS, CELLS), np.int64)
    parts[3], parts[4] = table(speak(chain(0), 500, 1)), table(speak(chain(0), 500, 2))
    found = near(target, parts)
    assert found.similarity > 0.8
    assert found.low is found.high is None


def test_nearness_is_between_the_yardsticks() -> None:
    """0 as shuffled units, 1 as the target's other half; where these are alike, nothing is told."""
    sticks = Yardsticks(Near(0.9), shuffled=0.3, own_clips=0.8)
    assert [sticks.nearness(value) for value in (0.3, 0.6, 0.9)] == [0.0, pytest.approx(0.5), 1.0]
    assert Yardsticks(Near(0.7), shuffled=0.65, own_clips=0.6).nearness(0.68) is None
