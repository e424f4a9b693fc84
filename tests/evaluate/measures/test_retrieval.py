"""Query by example: ranks, and alignment beside a slow reference."""

from __future__ import annotations

import numpy as np
import pytest

from runyoro_ssl.evaluate.measures import retrieval
from runyoro_ssl.evaluate.perturb import SPEED


def _slow_dtw(query: np.ndarray, answer: np.ndarray) -> float:
    """The least mean cosine distance along a path, by a plain loop."""
    unit = [frames / np.linalg.norm(frames, axis=1, keepdims=True) for frames in (query, answer)]
    distance = 1 - unit[0] @ unit[1].T
    total = np.full((len(query) + 1, len(answer) + 1), np.inf)
    total[0, 0] = 0
    for row in range(len(query)):
        for column in range(len(answer)):
            before = min(total[row, column], total[row, column + 1], total[row + 1, column])
            total[row + 1, column + 1] = distance[row, column] + before
    return float(total[-1, -1] / (len(query) + len(answer)))


def test_alignment_is_that_of_a_plain_loop() -> None:
    """Of answers of any length."""
    generator = np.random.default_rng(0)
    queries = [generator.normal(size=(size, 4)) for size in (7, 9)]
    answers = [generator.normal(size=(size, 4)) for size in (8, 5)]
    expected = [[-_slow_dtw(query, answer) for answer in answers] for query in queries]
    assert retrieval.dtw_similarity(queries, answers) == pytest.approx(np.array(expected), rel=1e-5)


def test_reciprocal_ranks_count_ties_half() -> None:
    """First, second, and one of three alike."""
    similarity = np.array([[3.0, 1, 2], [5, 4, 0], [1, 1, 1]])
    assert retrieval.reciprocal_ranks(similarity).tolist() == [1.0, 0.5, 0.5]


def test_a_snippet_is_found_where_it_was_slowed_down() -> None:
    """Frames of a changed clip are cut where they then lie."""
    generator = np.random.default_rng(0)
    clips = [generator.normal(size=(200, 8)).astype(np.float32) for _ in range(3)]
    faster = [clip[np.minimum(np.round(np.arange(int(200 / SPEED)) * SPEED).astype(int), 199)] for clip in clips]
    snippets = retrieval.choose_snippets([200] * 3, generator)
    assert len(snippets.clips) == 18
    answers, queries = retrieval.cut(clips, snippets), retrieval.cut(faster, snippets, "speed")
    for similar in (retrieval.pooled_similarity, retrieval.dtw_similarity):
        assert retrieval.reciprocal_ranks(similar(queries, answers)).mean() > 0.95
    shuffled = [queries[index] for index in generator.permutation(len(queries))]
    assert retrieval.reciprocal_ranks(retrieval.pooled_similarity(shuffled, answers)).mean() < 0.5


def test_mean_reciprocal_rank_by_group() -> None:
    """Of both models, whatever the weights."""
    found = retrieval.per_group([np.array([1.0, 0.5, 0.25]), np.ones(3)], np.array([0, 1, 1]), 2)
    assert found.values == pytest.approx([1.75 / 3, 1])
    assert found.statistic(np.array([[0.0, 2.0]]))[0] == pytest.approx([0.375, 1])
