"""Geometry: rank, clusters and evenness, beside slow references and what is known of simple clouds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import davies_bouldin_score

from runyoro_ssl.evaluate.measures import geometry


@pytest.fixture
def generator() -> np.random.Generator:
    """One that is always the same."""
    return np.random.default_rng(0)


def test_effective_rank_of_a_round_cloud_and_of_a_line(generator: np.random.Generator) -> None:
    """As many as there are dimensions, and one."""
    round_cloud = generator.normal(size=(5000, 16))
    assert geometry.effective_rank(round_cloud.T @ round_cloud) == pytest.approx(16, rel=0.01)
    line = np.outer(generator.normal(size=500), np.ones(16))
    assert geometry.effective_rank(line.T @ line) == pytest.approx(1, abs=0.01)


def test_effective_rank_is_that_of_rankme(generator: np.random.Generator) -> None:
    """The entropy of singular values, by a decomposition of the features themselves."""
    features = generator.normal(size=(300, 8)) * np.arange(1, 9)
    values = np.linalg.svd(features, compute_uv=False)
    share = values / values.sum() + 1e-7
    expected = np.exp(-np.sum(share * np.log(share)))
    assert geometry.effective_rank(features.T @ features) == pytest.approx(expected)


def test_ranks_with_weights_are_those_of_repeated_groups(generator: np.random.Generator) -> None:
    """A group of weight two counts as if its frames were there twice."""
    features = generator.normal(size=(60, 5)).astype(np.float32)
    groups = np.repeat([0, 1, 2], 20)
    grams = geometry.grams(features, groups, 3)
    weights = np.array([[2.0, 0.0, 1.0]])
    centred = features - features.mean(0)
    repeated = np.concatenate([centred[:20], centred[:20], centred[40:]])
    expected = geometry.effective_rank(repeated.T.astype(np.float64) @ repeated)
    assert geometry.rank_statistic([grams])(weights)[0, 0] == pytest.approx(expected, rel=1e-5)


def test_clusters_that_lie_apart_overlap_less(generator: np.random.Generator) -> None:
    """And what there is only one of cannot be said to overlap."""
    centres = np.repeat(np.eye(4) * 10, 50, axis=0)
    labels = np.repeat(np.arange(4), 50)
    near, far = (generator.normal(size=(200, 4)) * spread + centres for spread in (4.0, 0.5))
    assert geometry.davies_bouldin(far, labels) < 0.2 < geometry.davies_bouldin(near, labels)
    assert np.isnan(geometry.davies_bouldin(far, np.zeros(200, dtype=int)))
    assert geometry.davies_bouldin(near, labels) == pytest.approx(davies_bouldin_score(near, labels))
    groups = np.tile([0, 1], 100)
    both = geometry.cluster_statistic([far, near], [labels, labels], groups)(np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert both[0] == pytest.approx([geometry.davies_bouldin(far, labels), geometry.davies_bouldin(near, labels)])
    assert both[1] != pytest.approx(both[0], rel=1e-3)


def test_clusters_drawn_anew_are_no_denser(generator: np.random.Generator) -> None:
    """The index of drawn groups wanders around that of all: it is not lower for every draw."""
    frames, labels = generator.normal(size=(400, 6)), generator.integers(0, 20, 400)
    groups = np.repeat(np.arange(40), 10)
    weights = generator.multinomial(40, np.full(40, 1 / 40), size=200).astype(float)
    drawn = geometry.cluster_statistic([frames], [labels], groups)(weights)[:, 0]
    assert abs(drawn.mean() / geometry.davies_bouldin(frames, labels) - 1) < 0.05


def test_uniformity_is_that_of_wang_and_isola(generator: np.random.Generator) -> None:
    """By a plain loop over pairs; lower where directions are spread."""
    frames = generator.normal(size=(30, 6))
    unit = frames / np.linalg.norm(frames, axis=1, keepdims=True)
    pairs = [np.exp(-2 * np.sum((unit[i] - unit[j]) ** 2)) for i in range(30) for j in range(30) if i != j]
    groups = np.arange(30)
    found = geometry.uniformity_statistic([geometry.similarity_kernel(frames)], groups)(np.ones((1, 30)))
    assert found[0, 0] == pytest.approx(np.log(np.mean(pairs)))
    narrow = geometry.uniformity_statistic([geometry.similarity_kernel(frames + 10)], groups)(np.ones((1, 30)))
    assert narrow[0, 0] > found[0, 0]
