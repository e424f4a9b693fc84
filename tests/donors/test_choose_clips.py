"""Which clips are taken: the nearest, and no more of one voice, or recording, than is wanted."""

from __future__ import annotations

import numpy as np
import pytest

from runyoro_ssl.donors.choice import choose


def by_hand(
    similarity: np.ndarray, num_samples: np.ndarray, groups: list[np.ndarray], max_samples: int, max_of_group: int
) -> list[bool]:
    """The same, as one would do it with a pencil."""
    chosen: list[int] = []
    order = sorted(
        (clip for clip in range(len(similarity)) if similarity[clip] == similarity[clip]),
        key=lambda clip: (-similarity[clip], clip),
    )
    for clip in order:
        if sum(num_samples[one] for one in chosen) >= max_samples:
            break
        fits = True
        for group in groups:
            others = [one for one in chosen if group[clip] >= 0 and group[one] == group[clip]]
            if others and sum(num_samples[one] for one in [*others, clip]) > max_of_group:
                fits = False
        if fits:
            chosen.append(clip)
    return [clip in chosen for clip in range(len(similarity))]


@pytest.mark.parametrize("seed", range(20))
def test_as_by_hand(seed: int) -> None:
    """Equals, clips of which nothing is told, speakers who are not known, and too little of all among them."""
    generator = np.random.default_rng(seed)
    size = int(generator.integers(1, 60))
    similarity = generator.integers(0, 8, size) / 8
    similarity[generator.random(size) < 0.1] = np.nan
    num_samples = generator.integers(1, 20, size)
    groups = [generator.integers(-1, 5, size), generator.integers(0, 15, size)]
    wanted, of_group = int(generator.integers(1, 400)), int(generator.integers(1, 80))
    chosen = choose(similarity, num_samples, groups, max_samples=wanted, max_of_group=of_group)
    assert chosen.tolist() == by_hand(similarity, num_samples, groups, wanted, of_group)


def test_bounds_hold() -> None:
    """One voice gives no more than its share, though all of its clips are the nearest; whole clips, just enough."""
    similarity = np.linspace(1, 0, 100)
    speaker = np.repeat([0, 1, 2, 3], 25)
    chosen = choose(similarity, np.full(100, 10), [speaker], max_samples=400, max_of_group=150)
    assert [int(chosen[speaker == one].sum()) for one in range(4)] == [15, 15, 10, 0]
    assert chosen.sum() * 10 == 400
    assert chosen[:15].all()
