"""Query by example: a snippet of speech, changed by noise or speed, is looked for among all clean ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runyoro_ssl.evaluate.intervals import PerGroup
from runyoro_ssl.evaluate.perturb import Perturbation, frames_after

SNIPPET_FRAMES = 30
"""0.6 s: a word or two."""
MAX_SNIPPETS = 200


@dataclass(frozen=True)
class Snippets:
    """Stretches of clips: the place of the clip, int64 (Q,), and the first frame, int64 (Q,)."""

    clips: np.ndarray
    begins: np.ndarray


def choose_snippets(num_frames: Sequence[int], generator: np.random.Generator) -> Snippets:
    """Choose snippets that do not overlap, spread over clips of so many frames, at most `MAX_SNIPPETS`."""
    places = [
        (clip, begin)
        for clip, frames in enumerate(num_frames)
        for begin in range(0, frames - SNIPPET_FRAMES + 1, SNIPPET_FRAMES)
    ]
    chosen = sorted(generator.choice(len(places), min(MAX_SNIPPETS, len(places)), replace=False)) if places else []
    found = np.array([places[index] for index in chosen], dtype=np.int64).reshape(-1, 2)
    return Snippets(found[:, 0], found[:, 1])


def cut(clips: Sequence[np.ndarray], snippets: Snippets, how: Perturbation = "none") -> list[np.ndarray]:
    """The frames of each snippet in clips changed so: float32 (about 30, H) each; never empty."""
    found = []
    for clip, begin in zip(snippets.clips, snippets.begins, strict=True):
        frames = clips[clip]
        edges = frames_after(np.array([begin, begin + SNIPPET_FRAMES]), how)
        first, last = np.round(edges).astype(int).tolist()
        first = min(first, len(frames) - 1)
        found.append(frames[first : max(last, first + 1)])
    return found


def pooled_similarity(queries: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> np.ndarray:
    """Cosines of the means of frames: float64 (Q, Q), of each query and each clean snippet."""
    first, second = (_unit(np.stack([one.mean(0) for one in side]).astype(np.float64)) for side in (queries, answers))
    return np.asarray(first @ second.T)


def dtw_similarity(queries: Sequence[np.ndarray], answers: Sequence[np.ndarray]) -> np.ndarray:
    """Less the cosine distance of frames, added up along the best alignment and divided by both lengths: (Q, Q).

    Dynamic time warping as query by example uses it: Hazen et al., 2009, doi 10.1109/ASRU.2009.5372889.
    """
    units = [_unit(answer) for answer in answers]
    longest = max(map(len, units))
    padded = np.zeros((len(units), longest, units[0].shape[1]), np.float32)
    for row, unit in zip(padded, units, strict=True):
        row[: len(unit)] = unit
    lengths = np.array(list(map(len, units)))
    return np.stack([-_align(1 - np.einsum("td,ald->atl", _unit(query), padded), lengths) for query in queries])


def _align(distances: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Mean distance along the best path through each of many matrices, float (A, T, L), of answers of these lengths."""
    num_answers, rows, columns = distances.shape
    before = np.full((num_answers, columns + 1), np.inf)
    before[:, 0] = 0
    for row in range(rows):
        now = np.full((num_answers, columns + 1), np.inf)
        best = np.minimum(before[:, :-1], before[:, 1:])
        for column in range(columns):
            now[:, column + 1] = distances[:, row, column] + np.minimum(best[:, column], now[:, column])
        before = now
    return np.asarray(before[np.arange(num_answers), lengths] / (rows + lengths))


def reciprocal_ranks(similarity: np.ndarray) -> np.ndarray:
    """One over the rank of the right answer of each query, (Q, Q) -> float64 (Q,); what ties with it counts half."""
    right = np.diag(similarity)[:, None]
    ahead = (similarity > right).sum(1) + ((similarity == right).sum(1) - 1) / 2
    return np.asarray(1 / (1 + ahead))


def per_group(ranks: Sequence[np.ndarray], groups_of_queries: np.ndarray, num_groups: int) -> PerGroup:
    """Reciprocal ranks, of each subject (Q,), by group: their mean is the mean reciprocal rank."""
    above = np.stack([np.bincount(groups_of_queries, one, minlength=num_groups) for one in ranks])
    below = np.bincount(groups_of_queries, minlength=num_groups).astype(np.float64)
    return PerGroup(above, np.broadcast_to(below, above.shape))


def _unit(frames: np.ndarray) -> np.ndarray:
    return np.asarray(frames / np.maximum(np.linalg.norm(frames, axis=-1, keepdims=True), 1e-12))
