"""Units: what they carry, how steady they are, what they tell of a speaker."""

from __future__ import annotations

import numpy as np
import pytest

from runyoro_ssl.evaluate.measures import units

ONE = np.zeros(2, dtype=np.int64)


def test_bits_a_second_of_units_that_follow_a_coin() -> None:
    """Entropy times units a second, runs taken as one."""
    clip = np.tile([0, 0, 1, 1, 2, 2, 3, 3], 25)  # 200 frames: 4 s with 100 units of 4 kinds
    found = units.bitrate_statistic([[clip, clip]], ONE)(np.ones((1, 1)))
    assert found[0, 0] == pytest.approx(2 * 100 / 4)
    constant = np.zeros(200, dtype=np.int64)
    assert units.bitrate_statistic([[constant, constant]], ONE)(np.ones((1, 1)))[0, 0] == pytest.approx(0)


def test_stability_counts_edits() -> None:
    """One of three units another: two thirds stay."""
    clean, changed = np.array([5, 5, 7, 7, 9]), np.array([5, 5, 8, 9, 9])
    found = units.stability([[clean, clean]], [[changed, clean]], np.array([0, 1]))
    assert (found.numerators / found.denominators).tolist() == [[pytest.approx(2 / 3), 1.0]]


def test_what_units_tell_of_a_speaker() -> None:
    """A bit where each of two speakers has units of their own; nothing where units come by chance."""
    generator = np.random.default_rng(0)
    own = [np.full(500, 3), np.full(500, 4)]
    random = [generator.integers(0, 50, 2000) for _ in range(2)]
    speakers, groups = np.array([0, 1]), np.array([0, 1])
    whole = np.ones((1, 2))
    assert units.speaker_information_statistic([own], speakers, groups)(whole)[0, 0] == pytest.approx(1, abs=0.01)
    assert units.speaker_information_statistic([random], speakers, groups)(whole)[0, 0] < 0.005


def test_units_are_those_of_scikit_learn_and_do_not_depend_on_the_call() -> None:
    """Fitted twice from one seed, the same."""
    frames = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    one, other = (units.fit_units(frames, np.random.default_rng(5), 20).predict(frames) for _ in range(2))
    assert (one == other).all()
    assert len(np.unique(one)) == 20
